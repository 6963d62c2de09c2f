// Matrix products by the oneDNN that is inside of libtorch_cpu; see tzwc/products.
#pragma once

#include <dlfcn.h>

#include "_native_tensors.h"

namespace {

// at::native::mkldnn_matmul(const Tensor& a, const Tensor& b, const Tensor& result, float beta, float alpha). An
// at::Tensor is one pointer to its TensorImpl, and a reference to it the address of such a pointer.
using Matmul = void (*)(const void* a, const void* b, const void* result, float beta, float alpha);
Matmul matmul = nullptr;

bool install_products() {
  if (void* library = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY)) {
    matmul = reinterpret_cast<Matmul>(dlsym(library, "_ZN2at6native13mkldnn_matmulERKNS_6TensorES3_S3_ff"));
  }
  return matmul != nullptr;
}

// Whether oneDNN may be handed this: what it cannot do it answers with an error at best.
bool is_factor(PyObject* object) {
  if (!is_tensor(object) || !is_plain(object)) {
    return false;
  }
  const TensorImpl& impl = *impl_of(object);
  return impl.device().is_cpu() && c10::typeMetaToScalarType(impl.dtype()) == c10::ScalarType::Float && impl.numel() > 0;
}

// ``result = a · b``, without the GIL. Shapes that do not fit are an exception.
void multiply(PyObject* a, PyObject* b, PyObject* result) {
  const void *first = impl_of(a), *second = impl_of(b), *third = impl_of(result);
  struct Released {
    PyThreadState* state = PyEval_SaveThread();
    ~Released() {
      PyEval_RestoreThread(state);
    }
  } released;
  matmul(&first, &second, &third, 0.0f, 1.0f);
}

} // namespace
