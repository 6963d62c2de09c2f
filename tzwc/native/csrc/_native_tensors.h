// What is recorded of plain tensors; the native twin of Record in python_watch.py.
#pragma once

#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "_native_object.h"

namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::TensorImpl;

PyTypeObject* tensor_type = nullptr;
PyTypeObject* parameter_type = nullptr;

struct PythonTensor {
  PyObject_HEAD
  TensorImpl* impl;
};

TensorImpl* impl_of(PyObject* tensor) {
  return reinterpret_cast<PythonTensor*>(tensor)->impl;
}

// Every backend but the one that has no memory.
const uint64_t plain_keys =
    (((uint64_t{1} << c10::num_backends) - 1) & ~DispatchKeySet(c10::BackendComponent::MetaBit).raw_repr()) |
    (DispatchKeySet(
         {DispatchKey::Dense,
          DispatchKey::ADInplaceOrView,
          DispatchKey::AutogradFunctionality,
          DispatchKey::AutogradOther,
          DispatchKey::Conjugate,
          DispatchKey::Negative}) |
     c10::autocast_dispatch_keyset)
        .raw_repr();

// Strided, with memory of its own, and of no subclass; neither quantised, nested, fake nor wrapped.
C10_ALWAYS_INLINE bool is_plain(PyObject* object) {
  if (Py_TYPE(object) != tensor_type && Py_TYPE(object) != parameter_type) {
    return false;
  }
  TensorImpl* impl = impl_of(object);
  // has_storage() would be a call, hundreds of times over.
  return (impl->key_set().raw_repr() & ~plain_keys) == 0 && impl->unsafe_storage();
}

bool is_tensor(PyObject* object) {
  return Py_TYPE(object) == parameter_type || PyType_IsSubtype(Py_TYPE(object), tensor_type);
}

// The order in which the bytes of a strided tensor are read: runs of adjacent bytes, from large strides to small ones.
struct Walk {
  std::vector<std::pair<int64_t, int64_t>> outer; // number of steps and their width in bytes
  size_t run; // bytes
  size_t total; // bytes, every element once; elements that stride 0 repeats are read once
  size_t end; // bytes from the first element to the end of the last

  explicit Walk(const TensorImpl& impl) : run(impl.itemsize()), end(run) {
    const auto width = static_cast<int64_t>(run);
    for (size_t d = 0; d < impl.sizes().size(); ++d) {
      if (impl.sizes()[d] > 1 && impl.strides()[d] != 0) {
        outer.emplace_back(impl.sizes()[d], impl.strides()[d] * width);
        end += static_cast<size_t>((outer.back().first - 1) * outer.back().second);
      }
    }
    std::stable_sort(outer.begin(), outer.end(), [](auto a, auto b) { return a.second > b.second; });
    while (!outer.empty() && outer.back().second == static_cast<int64_t>(run)) {
      run *= static_cast<size_t>(outer.back().first);
      outer.pop_back();
    }
    total = run;
    for (const auto& steps : outer) {
      total *= static_cast<size_t>(steps.first);
    }
  }

  // Whether body(offset in the tensor) holds for every run; stops at the first for which it does not.
  template <typename Body>
  bool all(const Body& body, size_t depth = 0, int64_t offset = 0) const {
    if (depth == outer.size()) {
      return body(offset);
    }
    for (int64_t step = 0; step < outer[depth].first; ++step, offset += outer[depth].second) {
      if (!all(body, depth + 1, offset)) {
        return false;
      }
    }
    return true;
  }
};

C10_ALWAYS_INLINE const char* data_of(const TensorImpl& impl) {
  // Read through the storage, because a tensor's data() would unshare copy-on-write memory.
  const auto* start = static_cast<const char*>(impl.unsafe_storage().data());
  return impl.numel() == 0 ? nullptr : start + impl.storage_offset() * static_cast<int64_t>(impl.itemsize());
}

C10_ALWAYS_INLINE int64_t version_of(TensorImpl& impl) {
  const auto& counter = impl.version_counter();
  return impl.is_inference() || !counter.enabled() ? -1 : static_cast<int64_t>(counter.current_version());
}

// Whether a storage that may have been cut short still holds every element.
bool holds(const TensorImpl& impl, const Walk& walk) {
  const auto offset = static_cast<size_t>(impl.storage_offset()) * impl.itemsize();
  return offset + walk.end <= impl.unsafe_storage().nbytes();
}

C10_ALWAYS_INLINE uint8_t flags_of(const TensorImpl& impl) {
  return static_cast<uint8_t>(impl.requires_grad() | impl.is_conj() << 1 | impl.is_neg() << 2);
}

struct Bits {
  Walk walk;
  std::unique_ptr<char[]> copy;

  explicit Bits(const TensorImpl& impl) : walk(impl), copy(new char[walk.total]) {
    const char* data = data_of(impl);
    char* target = copy.get();
    walk.all([&](int64_t offset) {
      std::memcpy(target, data + offset, walk.run);
      target += walk.run;
      return true;
    });
  }

  bool same(const TensorImpl& impl) const {
    const char* data = data_of(impl);
    const char* expected = copy.get();
    return holds(impl, walk) && walk.all([&](int64_t offset) {
      const bool equal = std::memcmp(expected, data + offset, walk.run) == 0;
      expected += walk.run;
      return equal;
    });
  }
};

struct Entry {
  bool plain;
  uint8_t flags = 0;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  c10::Device device = c10::kCPU;
  uint32_t dims = 0;
  size_t shape = 0; // where sizes, then strides, begin in Tensors::shapes
  int64_t version = -1;
  const char* data = nullptr;
};

// What is recorded. Entries that are not plain are left to Python.
struct Tensors {
  bool content = false;
  std::vector<Entry> entries;
  std::vector<int64_t> shapes;
  std::vector<Ref> objects; // if content: the tensors
  std::vector<c10::Storage> storages;
  std::vector<std::unique_ptr<Bits>> bits; // if bytes are compared: one or null for every entry

  void record(PyObject* object, bool compare_bytes) {
    Entry entry{is_plain(object)};
    std::unique_ptr<Bits> copy;
    if (entry.plain) {
      TensorImpl& impl = *impl_of(object);
      entry.flags = flags_of(impl);
      entry.dtype = c10::typeMetaToScalarType(impl.dtype());
      entry.device = impl.device();
      entry.dims = static_cast<uint32_t>(impl.dim());
      entry.shape = shapes.size();
      shapes.insert(shapes.end(), impl.sizes().begin(), impl.sizes().end());
      shapes.insert(shapes.end(), impl.strides().begin(), impl.strides().end());
      if (content) {
        entry.version = version_of(impl);
        entry.data = data_of(impl);
        storages.push_back(impl.unsafe_storage());
      }
      if (compare_bytes && impl.device().is_cpu() && impl.numel() > 0 && holds(impl, Walk(impl))) {
        copy = std::make_unique<Bits>(impl);
      }
    }
    if (content) {
      objects.emplace_back(object);
    }
    if (compare_bytes) {
      bits.push_back(std::move(copy));
    }
    entries.push_back(entry);
  }

  bool differs(size_t index, PyObject* object) const {
    const Entry& entry = entries[index];
    if (!entry.plain) {
      return false;
    }
    if ((content && objects[index].get() != object) || !is_plain(object)) {
      return true;
    }
    TensorImpl& impl = *impl_of(object);
    if (content && (entry.version != version_of(impl) || entry.data != data_of(impl))) {
      return true;
    }
    if (entry.flags != flags_of(impl) || entry.dtype != c10::typeMetaToScalarType(impl.dtype()) ||
        entry.device != impl.device() || entry.dims != impl.dim()) {
      return true;
    }
    // A loop: for so few numbers, the calls of memcmp that std::equal makes cost more than the comparison.
    const int64_t* shape = shapes.data() + entry.shape;
    const int64_t *sizes = impl.sizes().data(), *strides = impl.strides().data();
    int64_t difference = 0;
    for (uint32_t d = 0; d < entry.dims; ++d) {
      difference |= (shape[d] ^ sizes[d]) | (shape[entry.dims + d] ^ strides[d]);
    }
    if (difference != 0) {
      return true;
    }
    return !bits.empty() && bits[index] && !bits[index]->same(impl);
  }
};

// Parameters lie all over the memory, and a tensor is a chain of objects each of which tells where the next is. Fetching
// the links of later tensors in good time hides most of the waiting.
C10_ALWAYS_INLINE void prefetch(PyObject* const* objects, Py_ssize_t i, Py_ssize_t count) {
  constexpr Py_ssize_t distance = 5;
  if (i + 3 * distance >= count) {
    return;
  }
  __builtin_prefetch(objects[i + 3 * distance]);
  if (PyObject* object = objects[i + 2 * distance]; is_tensor(object)) {
    const auto* start = reinterpret_cast<const char*>(impl_of(object));
    for (size_t line = 0; line < sizeof(TensorImpl); line += 64) {
      __builtin_prefetch(start + line);
    }
  }
  if (PyObject* object = objects[i + distance]; is_plain(object)) {
    const TensorImpl& impl = *impl_of(object);
    __builtin_prefetch(impl.unsafe_storage().unsafeGetStorageImpl());
    static_assert(sizeof(impl.version_counter()) == sizeof(void*), "a version counter is one pointer");
    const void* counter = nullptr;
    std::memcpy(&counter, static_cast<const void*>(&impl.version_counter()), sizeof(counter));
    __builtin_prefetch(counter);
    const auto* autograd = reinterpret_cast<const char*>(impl.autograd_meta());
    __builtin_prefetch(autograd);
    __builtin_prefetch(autograd + 128); // where requires_grad is
  }
}

} // namespace
