// The watches of python_watch.py, which says what they mean; here is only how they are fast.
//
// Every object of Python and of torch is touched with the GIL held.

#include "_native_buffers.h"
#include "_native_dicts.h"
#include "_native_object.h"
#include "_native_products.h"
#include "_native_tensors.h"

namespace {

PyObject* list_of(const std::vector<Py_ssize_t>& numbers) {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(numbers.size()));
  for (size_t i = 0; list && i < numbers.size(); ++i) {
    PyObject* number = PyLong_FromSsize_t(numbers[i]);
    if (!number) {
      Py_CLEAR(list);
    } else {
      PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), number);
    }
  }
  return list;
}

PyObject* tensors_new(PyTypeObject* type, PyObject* args, PyObject* /*kwargs*/) {
  PyObject* given = nullptr;
  int content = 0, compare_bytes = 0;
  if (!PyArg_ParseTuple(args, "O!pp", &PyTuple_Type, &given, &content, &compare_bytes)) {
    return nullptr;
  }
  PyObject* self = Box<Tensors>::make(type);
  if (!self) {
    return nullptr;
  }
  Tensors& tensors = Box<Tensors>::of(self);
  tensors.content = content;
  PyObject* done = guarded<PyObject*>(nullptr, [&]() -> PyObject* {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); ++i) {
      PyObject* object = PyTuple_GET_ITEM(given, i);
      if (!is_tensor(object)) {
        return wrong_entry(i, "tensor", object);
      }
      tensors.record(object, compare_bytes);
    }
    return self;
  });
  if (!done) {
    Py_DECREF(self);
  }
  return done;
}

// The indices that differ, as a new list.
PyObject* compare(const Tensors& tensors, PyObject* sequence) {
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
  if (static_cast<size_t>(count) != tensors.entries.size()) {
    return PyErr_Format(
        PyExc_ValueError, "%zu tensors are watched, %zd were given", tensors.entries.size(), count);
  }
  // Collected in C++ first: an exception thrown half way then leaves no list behind.
  std::vector<Py_ssize_t> found;
  PyObject** const objects = PySequence_Fast_ITEMS(sequence);
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* object = objects[i];
    prefetch(objects, i, count);
    if (!is_tensor(object)) {
      return wrong_entry(i, "tensor", object);
    }
    if (tensors.differs(static_cast<size_t>(i), object)) {
      found.push_back(i);
    }
  }
  return list_of(found);
}

PyObject* tensors_changed(PyObject* self, PyObject* given) {
  PyObject* sequence = PySequence_Fast(given, "tensors must be a sequence");
  if (!sequence) {
    return nullptr;
  }
  PyObject* changed =
      guarded<PyObject*>(nullptr, [&]() { return compare(Box<Tensors>::of(self), sequence); });
  Py_DECREF(sequence);
  return changed;
}

// The positions of the tensors that are not plain, which Python has to watch.
PyObject* tensors_others(PyObject* self, PyObject* /*unused*/) {
  return guarded<PyObject*>(nullptr, [&]() {
    const auto& entries = Box<Tensors>::of(self).entries;
    std::vector<Py_ssize_t> found;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (!entries[i].plain) {
        found.push_back(static_cast<Py_ssize_t>(i));
      }
    }
    return list_of(found);
  });
}

PyObject* dicts_new(PyTypeObject* type, PyObject* args, PyObject* /*kwargs*/) {
  PyObject* given = nullptr;
  int lockstep = 0;
  if (!PyArg_ParseTuple(args, "O!p", &PyTuple_Type, &given, &lockstep)) {
    return nullptr;
  }
  PyObject* self = Box<Dicts>::make(type);
  if (!self) {
    return nullptr;
  }
  Dicts& dicts = Box<Dicts>::of(self);
  dicts.lockstep = lockstep || !HAS_DICT_VERSIONS;
  PyObject* done = guarded<PyObject*>(nullptr, [&]() -> PyObject* {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given); ++i) {
      PyObject* dict = PyTuple_GET_ITEM(given, i);
      if (!PyDict_Check(dict)) {
        return wrong_entry(i, "dict", dict);
      }
      dicts.record(dict);
      if (PyODict_Check(dict) && PyDict_GET_SIZE(dict) > 1 && !dicts.record_order(dict)) {
        return nullptr;
      }
    }
    return self;
  });
  if (!done) {
    Py_DECREF(self);
  }
  return done;
}

PyObject* dicts_changed(PyObject* self, PyObject* /*unused*/) {
  const int changed = Box<Dicts>::of(self).changed();
  return changed < 0 ? nullptr : PyBool_FromLong(changed);
}

template <typename Value>
int add_type(PyObject* module, const char* name, newfunc make, PyMethodDef* methods) {
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(make)},
      {Py_tp_dealloc, reinterpret_cast<void*>(Box<Value>::dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(Box<Value>::traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(Box<Value>::clear)},
      {Py_tp_methods, methods},
      {0, nullptr}};
  PyType_Spec spec = {name, static_cast<int>(sizeof(Box<Value>)), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
  PyObject* type = PyType_FromSpec(&spec);
  const int failed = type ? PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(type)) : -1;
  Py_XDECREF(type);
  return failed;
}

PyMethodDef tensors_methods[] = {
    {"changed", tensors_changed, METH_O, "Indices of the plain tensors that differ from those recorded."},
    {"others", tensors_others, METH_NOARGS, "Positions of the tensors that are not watched here."},
    {nullptr, nullptr, 0, nullptr}};

PyMethodDef dicts_methods[] = {
    {"changed", dicts_changed, METH_NOARGS, "Whether any dict may have changed."},
    {nullptr, nullptr, 0, nullptr}};

// Must be called first: takes the classes of plain tensors.
PyObject* setup(PyObject* /*module*/, PyObject* args) {
  PyTypeObject *tensor = nullptr, *parameter = nullptr;
  if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &tensor, &PyType_Type, &parameter)) {
    return nullptr;
  }
  Py_INCREF(tensor); // for ever: the module is never unloaded
  Py_INCREF(parameter);
  tensor_type = tensor;
  parameter_type = parameter;
  Py_RETURN_NONE;
}

// Where this module believes the TensorImpl to be; to be compared with ``tensor._cdata``.
PyObject* address(PyObject* /*module*/, PyObject* tensor) {
  if (Py_TYPE(tensor)->tp_basicsize < static_cast<Py_ssize_t>(sizeof(PythonTensor))) {
    return PyLong_FromLong(0);
  }
  return PyLong_FromVoidPtr(impl_of(tensor));
}

PyObject* buffers_install(PyObject* /*module*/, PyObject* /*unused*/) {
  return guarded<PyObject*>(nullptr, [] { return PyBool_FromLong(install_buffers()); });
}

PyObject* buffers_enter(PyObject* /*module*/, PyObject* /*unused*/) {
  ++scope_depth;
  Py_RETURN_NONE;
}

PyObject* buffers_leave(PyObject* /*module*/, PyObject* /*unused*/) {
  if (--scope_depth == 0) {
    arena->age();
  }
  Py_RETURN_NONE;
}

PyObject* buffers_release(PyObject* /*module*/, PyObject* /*unused*/) {
  arena->release();
  Py_RETURN_NONE;
}

PyObject* buffers_statistics(PyObject* /*module*/, PyObject* /*unused*/) {
  const auto [in_use, reached] = arena->statistics();
  return Py_BuildValue("nn", static_cast<Py_ssize_t>(in_use), static_cast<Py_ssize_t>(reached));
}

PyObject* products_install(PyObject* /*module*/, PyObject* /*unused*/) {
  return PyBool_FromLong(install_products());
}

PyObject* products_multiply(PyObject* /*module*/, PyObject* args) {
  PyObject *a = nullptr, *b = nullptr, *result = nullptr;
  if (!PyArg_ParseTuple(args, "OOO", &a, &b, &result)) {
    return nullptr;
  }
  if (!matmul || !is_factor(a) || !is_factor(b) || !is_factor(result)) {
    PyErr_SetString(PyExc_TypeError, "three plain tensors of float32 on CPU are expected, none empty");
    return nullptr;
  }
  return guarded<PyObject*>(nullptr, [&] {
    multiply(a, b, result);
    return Py_NewRef(Py_None);
  });
}

PyMethodDef functions[] = {
    {"buffers_install", buffers_install, METH_NOARGS, "Whether there is kept memory; must be called before the others."},
    {"buffers_enter", buffers_enter, METH_NOARGS, "Take large buffers of this thread from kept memory."},
    {"buffers_leave", buffers_leave, METH_NOARGS, "End what the last buffers_enter of this thread began."},
    {"buffers_release", buffers_release, METH_NOARGS, "Give what is not in use back to the system."},
    {"buffers_statistics", buffers_statistics, METH_NOARGS, "Bytes in use, and bytes that may have memory."},
    {"products_install", products_install, METH_NOARGS, "Whether oneDNN was found; must be called before the other."},
    {"products_multiply", products_multiply, METH_VARARGS, "Write the product of the first two tensors to the third."},
    {"setup", setup, METH_VARARGS, "Take the classes of plain tensors."},
    {"address", address, METH_O, "Where a tensor's C++ object is believed to be."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "tzwc.native._native", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit__native() {
  PyObject* module = PyModule_Create(&definition);
  if (!module) {
    return nullptr;
  }
  if (add_type<Tensors>(module, "tzwc.native._native.TensorWatch", tensors_new, tensors_methods) < 0 ||
      add_type<Dicts>(module, "tzwc.native._native.DictWatch", dicts_new, dicts_methods) < 0) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
