// The extension module opendojo._core.
#include "dojo/bindings/bindings.h"

namespace dojo::bindings {
namespace {

void translate(const std::exception_ptr& exception, void*) {
  try {
    std::rethrow_exception(exception);
  } catch (const ApiError& error) {
    PyErr_SetString(nb::module_::import_("opendojo.errors").attr("Error").ptr(), error.what());
  }
}

}  // namespace
}  // namespace dojo::bindings

NB_MODULE(_core, module) {
  using namespace dojo::bindings;  // NOLINT(google-build-using-namespace): this module is its scope
  module.attr("__version__") = DOJO_VERSION;
  // Threads and formats that opendojo.numerics holds live as long as the process, and so may the
  // module that holds them.
  nb::set_leak_warnings(false);
  nb::register_exception_translator(translate);
  bind_base(module);
  bind_graph(module);
  bind_numerics(module);
  bind_run(module);
  bind_system(module);
}
