// What is recorded of dicts; the native twin of PythonDictWatch in python_watch.py.
#pragma once

#include <cstdint>
#include <vector>

#include "_native_object.h"

// Before CPython 3.12 every change of a dict gives it a number that no dict has had before.
#define HAS_DICT_VERSIONS (PY_VERSION_HEX < 0x030C0000)

namespace {

// Either the versions of the dicts are compared, or, in lockstep, the addresses of all keys and values. Those are then
// kept alive, so that no other object can come to lie at the same address.
struct Dicts {
  bool lockstep = true;
  std::vector<Ref> objects; // the dicts, the entries, the keys in the order of OrderedDicts
  std::vector<PyObject*> dicts;
  std::vector<uint64_t> versions;
  std::vector<Py_ssize_t> sizes;
  std::vector<PyObject*> entries; // key, value, key, value, …
  std::vector<PyObject*> ordered; // OrderedDicts in which there is an order to change
  std::vector<PyObject*> ordered_keys;

  PyObject* keep(PyObject* object) {
    objects.emplace_back(object);
    return object;
  }

  void record(PyObject* dict) {
    dicts.push_back(keep(dict));
    if (lockstep) {
      sizes.push_back(PyDict_GET_SIZE(dict));
      PyObject *key = nullptr, *value = nullptr;
      for (Py_ssize_t position = 0; PyDict_Next(dict, &position, &key, &value);) {
        entries.push_back(keep(key));
        entries.push_back(keep(value));
      }
    } else {
      versions.push_back(version_of(dict));
    }
  }

  // move_to_end leaves the dict below untouched: only iteration tells the order. False with an exception set.
  bool record_order(PyObject* dict) {
    ordered.push_back(dict);
    return each_key(dict, [&](PyObject* key) {
      ordered_keys.push_back(keep(key));
      return true;
    });
  }

  // 1 if changed, 0 if not, −1 with an exception set.
  int changed() const {
    if (lockstep ? entries_changed() : versions_changed()) {
      return 1;
    }
    size_t next = 0;
    bool same = true;
    for (PyObject* dict : ordered) {
      const bool read = each_key(dict, [&](PyObject* key) {
        same = same && next < ordered_keys.size() && ordered_keys[next++] == key;
        return same;
      });
      if (!read) {
        return -1;
      }
      if (!same) {
        return 1;
      }
    }
    return 0;
  }

 private:
  static uint64_t version_of(PyObject* dict) {
#if HAS_DICT_VERSIONS
    return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#else
    return 0; // lockstep is always true there
#endif
  }

  bool versions_changed() const {
    constexpr size_t ahead = 16; // what hides the time it takes to fetch a dict from memory
    const size_t count = dicts.size();
    uint64_t difference = 0;
    for (size_t i = 0; i < count; ++i) {
      __builtin_prefetch(dicts[i + ahead < count ? i + ahead : i]);
      difference |= versions[i] ^ version_of(dicts[i]);
    }
    return difference != 0;
  }

  bool entries_changed() const {
    const PyObject* const* expected = entries.data();
    for (size_t i = 0; i < dicts.size(); ++i) {
      if (PyDict_GET_SIZE(dicts[i]) != sizes[i]) {
        return true;
      }
      PyObject *key = nullptr, *value = nullptr;
      for (Py_ssize_t position = 0; PyDict_Next(dicts[i], &position, &key, &value); expected += 2) {
        if (expected[0] != key || expected[1] != value) {
          return true;
        }
      }
    }
    return false;
  }

  // Calls body with the keys of an OrderedDict in its order until it returns false.
  template <typename Body>
  static bool each_key(PyObject* dict, const Body& body) {
    PyObject* keys = PyODict_Type.tp_iter(dict);
    if (!keys) {
      return false;
    }
    bool wanted = true;
    while (wanted) {
      PyObject* key = PyIter_Next(keys);
      if (!key) {
        break;
      }
      wanted = body(key);
      Py_DECREF(key);
    }
    Py_DECREF(keys);
    return !PyErr_Occurred();
  }
};

} // namespace
