// Arrays of the special functions. This text is included once per instruction set, after
// special_algorithms.h, in a namespace and with a target of its own.
// NOLINT(llvm-header-guard): included more than once on purpose.

// PERF: plain loops that the compiler vectorises.
void exp(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = exp(x[i]);
  }
}
void log(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = log(x[i]);
  }
}
void tanh(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = tanh(x[i]);
  }
}
void erf(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = erf(x[i]);
  }
}
void rsqrt(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = rsqrt(x[i]);
  }
}
void sigmoid(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = sigmoid(x[i]);
  }
}
void sin(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = sin(x[i]);
  }
}
void cos(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = cos(x[i]);
  }
}
