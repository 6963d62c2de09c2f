// Python objects that own C++ values.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <exception>
#include <new>
#include <utility>

namespace {

// A strong reference. Vectors of these let go of everything on every way out.
class Ref {
 public:
  explicit Ref(PyObject* object) : object_(Py_XNewRef(object)) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&&) = delete;
  ~Ref() {
    Py_XDECREF(object_);
  }
  PyObject* get() const {
    return object_;
  }

 private:
  PyObject* object_;
};

// Calls into C++ that may throw, with what was thrown turned into a Python exception.
template <typename Result, typename Body>
Result guarded(Result failure, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return failure;
}

// A Python object around a C++ value; ``refs`` names the references that the garbage collector must know.
template <typename Value>
struct Box {
  PyObject_HEAD
  Value value;

  static Value& of(PyObject* self) {
    return reinterpret_cast<Box*>(self)->value;
  }
  static PyObject* make(PyTypeObject* type) {
    PyObject* self = type->tp_alloc(type, 0);
    if (self) {
      new (&of(self)) Value();
    }
    return self;
  }
  static int traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    for (const Ref& ref : of(self).objects) {
      Py_VISIT(ref.get());
    }
    return 0;
  }
  static int clear(PyObject* self) {
    Value emptied; // takes the contents along, so that what their destructors run finds a valid, empty value
    std::swap(of(self), emptied);
    return 0;
  }
  static void dealloc(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    of(self).~Value();
    type->tp_free(self);
    Py_DECREF(type);
  }
};

PyObject* wrong_entry(Py_ssize_t position, const char* expected, PyObject* object) {
  return PyErr_Format(PyExc_TypeError, "entry %zd is not a %s but %s", position, expected, Py_TYPE(object)->tp_name);
}

} // namespace
