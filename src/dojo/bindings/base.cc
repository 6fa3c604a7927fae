// Bindings of base: the table of number formats.
#include <nanobind/stl/string_view.h>

#include "dojo/base/format.h"
#include "dojo/bindings/bindings.h"

namespace dojo::bindings {

void bind_base(nb::module_& module) {
  nb::class_<FormatInfo>(module, "FormatInfo", "How one element of a tensor is stored.")
      .def_ro("name", &FormatInfo::name)
      .def_ro("bytes", &FormatInfo::bytes, "per element")
      .def_ro("exponent_bits", &FormatInfo::exponent_bits)
      .def_ro("mantissa_bits", &FormatInfo::mantissa_bits, "stored bits, without the hidden one")
      .def_ro("sign_bits", &FormatInfo::sign_bits)
      .def_ro("bias", &FormatInfo::bias,
              "of a format without its own per tensor; else the usual one")
      .def_ro("what", &FormatInfo::what)
      .def_prop_ro("is_float", [](const FormatInfo& format) { return is_float(format.format); })
      .def_prop_ro("has_inf",
                   [](const FormatInfo& format) { return format.top_codes == TopCodes::InfNan; })
      .def_prop_ro("has_nan",
                   [](const FormatInfo& format) { return format.top_codes != TopCodes::Numbers; })
      .def_prop_ro("has_bias", [](const FormatInfo& format) { return has_bias(format.format); })
      .def("__repr__", [](const FormatInfo& format) { return format.name; });
  module.def(
      "formats",
      [] {
        nb::list list;
        for (const FormatInfo& format : kFormats) {
          list.append(nb::cast(format, nb::rv_policy::reference));
        }
        return list;
      },
      "The number formats, in the order of their table.");
}

}  // namespace dojo::bindings
