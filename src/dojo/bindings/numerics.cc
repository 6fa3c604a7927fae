// Bindings of numerics: codecs, products and convolutions on arrays of any framework that exports
// DLPack or a buffer on the CPU. Nothing is copied: kernels read strides as they are, and write
// into arrays that the caller's framework made. opendojo.numerics checks arguments and says what is
// wrong with them; the checks here only keep a wrong call from reading foreign memory.
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "dojo/bindings/bindings.h"
#include "dojo/numerics/amax.h"
#include "dojo/numerics/bias.h"
#include "dojo/numerics/convolution.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/gemm.h"
#include "dojo/numerics/mx.h"

namespace dojo::bindings {
namespace {

using numerics::Activation;
using numerics::BiasMemory;
using numerics::ReduceCuts;
using numerics::StorageFormat;

using Operand = nb::ndarray<nb::ro, nb::device::cpu>;
using Values = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using CodesOut = nb::ndarray<nb::c_contig, nb::device::cpu>;
using ValuesOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Scales = nb::ndarray<const std::uint8_t, nb::c_contig, nb::device::cpu>;
using ScalesOut = nb::ndarray<std::uint8_t, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const char* what) {
  if (!holds) {
    throw ApiError(Error{ErrorKind::InvalidInput, what});
  }
}

// The worker threads of a process. Loops of a pool are not reentrant, and with the GIL released
// several Python threads may call: one at a time.
class Workers {
 public:
  explicit Workers(int threads) : pool_(std::make_unique<ThreadPool>(threads)), owner_(getpid()) {}
  ~Workers() {
    if (getpid() != owner_) {
      // A forked child has no such threads to join.
      [[maybe_unused]] const ThreadPool* left = pool_.release();
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const { return pool_->threads(); }

  template <class Body>
  auto run(const Body& body) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    return body(*pool_);
  }

 private:
  std::unique_ptr<ThreadPool> pool_;
  std::mutex mutex_;
  pid_t owner_;
};

template <class Array>
std::int64_t extent_of(const Array& array, std::size_t dimension) {
  return static_cast<std::int64_t>(array.shape(dimension));
}

numerics::Storage storage_of(const Operand& array, const StorageFormat& type) {
  require(array.itemsize() == static_cast<std::size_t>(bytes_of(type.format)),
          "the elements of an array are not as wide as its format");
  return {.data = array.data(), .type = type};
}

// EncodeStats: amax, saturated, zeroed, not finite; its flags.
using Counts = std::tuple<float, std::int64_t, std::int64_t, std::int64_t>;
using FlagBits = std::tuple<bool, bool, bool, bool>;  // invalid, denormal, overflow, underflow

std::pair<Counts, FlagBits> seen(const numerics::EncodeStats& stats) {
  const numerics::Flags& flags = stats.flags;
  return {{stats.amax, stats.saturated, stats.zeroed, stats.not_finite},
          {flags.invalid, flags.denormal, flags.overflow, flags.underflow}};
}

std::pair<Counts, FlagBits> encode(Workers& workers, const Values& in, const StorageFormat& to,
                                   numerics::Rounding mode, const RandomStream& stream,
                                   const CodesOut& out) {
  require(out.nbytes() == in.size() * static_cast<std::size_t>(bytes_of(to.format)),
          "encode: the output has another size than the input");
  const std::span<const float> values(in.data(), in.size());
  const std::span<std::byte> codes(static_cast<std::byte*>(out.data()), out.nbytes());
  return seen(workers.run([&](ThreadPool& pool) {
    return numerics::encode(pool, values, to, {.mode = mode, .stream = stream}, codes);
  }));
}

void decode(Workers& workers, const Codes& in, const StorageFormat& from, const ValuesOut& out) {
  require(in.nbytes() == out.size() * static_cast<std::size_t>(bytes_of(from.format)),
          "decode: the output has another size than the input");
  const std::span<const std::byte> codes(static_cast<const std::byte*>(in.data()), in.nbytes());
  workers.run([&](ThreadPool& pool) {
    numerics::decode(pool, codes, from, std::span<float>(out.data(), out.size()));
  });
}

// Arrays seen as [outer, length, inner] with blocks along the middle one.
numerics::MxShape mx_shape_of(const std::array<std::int64_t, 3>& extents, std::size_t elements,
                              std::size_t codes, std::size_t scales) {
  const numerics::MxShape shape{extents[0], extents[1], extents[2]};
  const auto counts = std::array{shape.elements(), shape.elements(), shape.scales()};
  require(counts == std::array{static_cast<std::int64_t>(elements),
                               static_cast<std::int64_t>(codes), static_cast<std::int64_t>(scales)},
          "the sizes of values, codes and scales do not fit together");
  return shape;
}

std::pair<Counts, FlagBits> encode_mx(Workers& workers, const Values& in,
                                      const std::array<std::int64_t, 3>& extents,
                                      const StorageFormat& element, numerics::Rounding mode,
                                      const RandomStream& stream, const CodesOut& codes,
                                      const ScalesOut& scales) {
  const numerics::MxShape shape = mx_shape_of(extents, in.size(), codes.nbytes(), scales.size());
  return seen(workers.run([&](ThreadPool& pool) {
    return numerics::encode_mx(
        pool, {in.data(), in.size()}, shape, element.format, {.mode = mode, .stream = stream},
        {static_cast<std::byte*>(codes.data()), codes.nbytes()}, {scales.data(), scales.size()});
  }));
}

void decode_mx(Workers& workers, const Codes& codes, const Scales& scales,
               const std::array<std::int64_t, 3>& extents, const StorageFormat& element,
               const ValuesOut& out) {
  const numerics::MxShape shape = mx_shape_of(extents, out.size(), codes.nbytes(), scales.size());
  workers.run([&](ThreadPool& pool) {
    numerics::decode_mx(pool, {static_cast<const std::byte*>(codes.data()), codes.nbytes()},
                        {scales.data(), scales.size()}, shape, element.format,
                        {out.data(), out.size()});
  });
}

float amax(Workers& workers, const Values& in) {
  return workers.run([&](ThreadPool& pool) {
    return numerics::finite_amax(pool, std::span<const float>(in.data(), in.size()));
  });
}

// An operand of [batch..., rows, columns]; batch dimensions are the last ones of BatchExtents.
numerics::MatrixOperand matrix_of(const Operand& array, const StorageFormat& type) {
  const std::size_t batches = array.ndim() - 2;
  numerics::MatrixOperand matrix{.storage = storage_of(array, type),
                                 .row_stride = array.stride(batches),
                                 .column_stride = array.stride(batches + 1)};
  for (std::size_t i = 0; i < batches; ++i) {
    matrix.batch_stride[3 - batches + i] = array.stride(i);
  }
  return matrix;
}

void matmul(Workers& workers, const Operand& a, const StorageFormat& a_type, const Operand& b,
            const StorageFormat& b_type, const ReduceCuts& cuts, const std::optional<Vector>& bias,
            Activation activation, const ValuesOut& out) {
  const std::size_t rank = out.ndim();
  require(rank >= 2 && rank <= 5 && a.ndim() == rank && b.ndim() == rank,
          "matmul: expected two to five dimensions, as many in each operand as in the output");
  const std::size_t batches = rank - 2;
  numerics::GemmShape shape{
      .m = extent_of(a, batches), .n = extent_of(b, batches + 1), .k = extent_of(b, batches)};
  numerics::MatrixOutput output{.data = out.data(), .row_stride = out.stride(batches)};
  bool fits = extent_of(a, batches + 1) == shape.k && extent_of(out, batches) == shape.m &&
              extent_of(out, batches + 1) == shape.n;
  for (std::size_t i = 0; i < batches; ++i) {
    fits = fits && a.shape(i) == out.shape(i) && b.shape(i) == out.shape(i);
    shape.batch[3 - batches + i] = extent_of(out, i);
    output.batch_stride[3 - batches + i] = out.stride(i);
  }
  require(fits && (!bias.has_value() || bias->size() == out.shape(batches + 1)),
          "matmul: the shapes do not fit together");
  const numerics::Epilogue epilogue{.column_bias = bias.has_value() ? bias->data() : nullptr,
                                    .activation = activation};
  const numerics::MatrixOperand left = matrix_of(a, a_type);
  const numerics::MatrixOperand right = matrix_of(b, b_type);
  workers.run(
      [&](ThreadPool& pool) { numerics::gemm(pool, shape, left, right, cuts, epilogue, output); });
}

struct ConvolutionGeometry {
  numerics::Axes stride{};
  numerics::Axes padding{};
  numerics::Axes dilation{};
  std::int64_t groups = 1;
};

// Arrays have one to three axes after two other dimensions; those of kernels are z, y, x, and what
// has fewer gets axes of extent 1 in front.
template <class Array>
std::size_t first_axis(const Array& array) {
  require(array.ndim() >= 3 && array.ndim() <= 5, "convolution: expected three to five dimensions");
  return 5 - array.ndim();
}

template <class Array>
numerics::Axes axes_of(const Array& array) {
  numerics::Axes axes{1, 1, 1};
  for (std::size_t a = first_axis(array), dimension = 2; a < axes.size(); ++a, ++dimension) {
    axes[a] = extent_of(array, dimension);
  }
  return axes;
}

numerics::ImageOperand image_of(const Operand& array, const StorageFormat& type) {
  numerics::ImageOperand image{.storage = storage_of(array, type),
                               .stride = {array.stride(0), array.stride(1)}};
  for (std::size_t a = first_axis(array), dimension = 2; a < 3; ++a, ++dimension) {
    image.stride[2 + a] = array.stride(dimension);
  }
  return image;
}

// Of the shapes of images, weights and outputs, each an operand or the result.
template <class Images, class Weights, class Outputs>
numerics::ConvolutionShape shape_of(const Images& images, const Weights& weights,
                                    const Outputs& outputs, const ConvolutionGeometry& geometry) {
  require(geometry.groups >= 1 && std::ranges::min(geometry.stride) >= 1,
          "convolution: groups and strides are at least 1");
  const numerics::ConvolutionShape shape{.batch = extent_of(images, 0),
                                         .channels_in = extent_of(images, 1),
                                         .channels_out = extent_of(weights, 0),
                                         .size = axes_of(images),
                                         .kernel = axes_of(weights),
                                         .stride = geometry.stride,
                                         .padding = geometry.padding,
                                         .dilation = geometry.dilation,
                                         .groups = geometry.groups};
  require(extent_of(weights, 1) * shape.groups == shape.channels_in &&
              extent_of(outputs, 0) == shape.batch && extent_of(outputs, 1) == shape.channels_out &&
              axes_of(outputs) == shape.out_size(),
          "convolution: the shapes do not fit together");
  return shape;
}

void convolution(Workers& workers, const Operand& input, const StorageFormat& input_type,
                 const Operand& weight, const StorageFormat& weight_type,
                 const ConvolutionGeometry& geometry, const ReduceCuts& cuts,
                 const std::optional<Vector>& bias, Activation activation, const ValuesOut& out) {
  const numerics::ConvolutionShape shape = shape_of(input, weight, out, geometry);
  require(!bias.has_value() || static_cast<std::int64_t>(bias->size()) == shape.channels_out,
          "convolution: one bias per output channel");
  const numerics::ImageOperand images = image_of(input, input_type);
  const numerics::ImageOperand weights = image_of(weight, weight_type);
  const float* added = bias.has_value() ? bias->data() : nullptr;
  workers.run([&](ThreadPool& pool) {
    numerics::convolution(pool, shape, images, weights, cuts, added, activation, out.data());
  });
}

// A gradient of a convolution: of its input or of its weight, from the other and that of the
// output.
enum class GradientOf : std::uint8_t { Input, Weight };

template <GradientOf of>
void convolution_gradient(Workers& workers, const Operand& gradient,
                          const StorageFormat& gradient_type, const Operand& other,
                          const StorageFormat& other_type, const ConvolutionGeometry& geometry,
                          const ReduceCuts& cuts, const ValuesOut& out) {
  const numerics::ImageOperand gradients = image_of(gradient, gradient_type);
  const numerics::ImageOperand others = image_of(other, other_type);
  if constexpr (of == GradientOf::Input) {
    const numerics::ConvolutionShape shape = shape_of(out, other, gradient, geometry);
    workers.run([&](ThreadPool& pool) {
      numerics::convolution_input_gradient(pool, shape, gradients, others, cuts, out.data());
    });
  } else {
    const numerics::ConvolutionShape shape = shape_of(other, out, gradient, geometry);
    workers.run([&](ThreadPool& pool) {
      numerics::convolution_weight_gradient(pool, shape, gradients, others, cuts, out.data());
    });
  }
}

Format format_of(std::string_view name) {
  const std::optional<Format> format = format_named(name);
  require(format.has_value(), "no such format");
  return *format;
}

void bind_enums(nb::module_& module) {
  nb::enum_<numerics::Rounding>(module, "Rounding")
      .value("NearestEven", numerics::Rounding::NearestEven)
      .value("Stochastic", numerics::Rounding::Stochastic)
      .value("NearestAway", numerics::Rounding::NearestAway);
  nb::enum_<numerics::DenormalScale>(module, "DenormalScale")
      .value("Paper", numerics::DenormalScale::Paper)
      .value("Gradual", numerics::DenormalScale::Gradual);
  nb::enum_<numerics::Overflow>(module, "Overflow")
      .value("OfFormat", numerics::Overflow::OfFormat)
      .value("Saturates", numerics::Overflow::Saturates)
      .value("BecomesSpecial", numerics::Overflow::BecomesSpecial);
  nb::enum_<Activation>(module, "Activation")
      .value("None_", Activation::None)
      .value("Relu", Activation::Relu);
}

void bind_types(nb::module_& module) {
  nb::class_<StorageFormat>(module, "StorageFormat", "How an element is stored.")
      .def(
          "__init__",
          [](StorageFormat* self, std::string_view format, int bias,
             numerics::DenormalScale denormals, numerics::Overflow overflow) {
            require(bias >= 0 && bias <= kMaxBias, "a bias is 0 to 63");
            new (self) StorageFormat{format_of(format), bias, denormals, overflow};
          },
          nb::arg("format"), nb::arg("bias"), nb::arg("denormals"), nb::arg("overflow"));
  module.def("max_code", [](std::string_view format) {
    return numerics::cfloat_spec(format_of(format), 0).max_magnitude();
  });
  nb::class_<RandomStream>(module, "RandomStream", "The random bits of one tensor in one step.")
      .def(
          "__init__",
          [](RandomStream* self, std::uint64_t seed, std::uint32_t tensor, std::uint32_t step) {
            new (self) RandomStream{seed, tensor, step};
          },
          nb::arg("seed"), nb::arg("tensor"), nb::arg("step"));
}

void bind_sums(nb::module_& module) {
  nb::class_<ReduceCuts>(module, "ReduceCuts", "In which order a sum is taken.")
      .def(
          "__init__",
          [](ReduceCuts* self, std::vector<std::int64_t> block, std::string_view order,
             std::vector<std::int64_t> run) {
            const std::optional<numerics::SumOrder> named = numerics::sum_order_named(order);
            require(named.has_value(), "no such order");
            require(run.empty() || run.size() == block.size(), "a run for each block");
            new (self) ReduceCuts{std::move(block), *named, std::move(run)};
          },
          nb::arg("block"), nb::arg("order"), nb::arg("run") = std::vector<std::int64_t>{});
  module.attr("sum_orders") = nb::cast(numerics::kSumOrderNames);
  nb::class_<ConvolutionGeometry>(module, "ConvolutionGeometry", "Axes are z, y, x.")
      .def(
          "__init__",
          [](ConvolutionGeometry* self, numerics::Axes stride, numerics::Axes padding,
             numerics::Axes dilation, std::int64_t groups) {
            new (self) ConvolutionGeometry{stride, padding, dilation, groups};
          },
          nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"), nb::arg("groups"));
  nb::class_<Workers>(module, "Workers", "Threads for the functions below, one call at a time.")
      .def(nb::init<int>(), nb::arg("threads"))
      .def_prop_ro("threads", &Workers::threads);
}

void bind_bias(nb::module_& module) {
  module.def(
      "bias_from_amax",
      [](std::string_view format, float amax, int margin) {
        return numerics::bias_from_amax(format_of(format), amax, margin);
      },
      nb::arg("format"), nb::arg("amax"), nb::arg("margin"));
  nb::class_<BiasMemory>(module, "BiasMemory", "What a tensor carries from step to step.")
      .def(
          "__init__",
          [](BiasMemory* self, std::vector<float> amax, std::int64_t position,
             std::optional<int> learnt,
             int votes) { new (self) BiasMemory{std::move(amax), position, learnt, votes}; },
          nb::arg("amax"), nb::arg("position"), nb::arg("learnt").none(), nb::arg("votes"))
      .def_ro("amax", &BiasMemory::amax)
      .def_ro("position", &BiasMemory::position)
      .def_ro("learnt", &BiasMemory::learnt)
      .def_ro("votes", &BiasMemory::votes);
}

void bind_bias_policy(nb::module_& module) {
  nb::class_<BiasPolicy>(module, "BiasPolicy", "How a tensor chooses its bias.")
      .def(
          "__init__",
          [](BiasPolicy* self, std::string_view rule, int window, int margin, int grid) {
            const auto named = std::ranges::find(kBiasRuleNames, rule);
            require(named != kBiasRuleNames.end(), "no such rule");
            new (self) BiasPolicy{.rule = static_cast<BiasRule>(named - kBiasRuleNames.begin()),
                                  .window = window,
                                  .margin = margin,
                                  .grid = grid};
          },
          nb::arg("rule"), nb::arg("window"), nb::arg("margin"), nb::arg("grid"))
      .def("follows_pass", &numerics::follows_pass, nb::arg("memory"))
      .def("is_sound", &numerics::is_sound, nb::arg("memory"))
      .def(
          "choose",
          [](const BiasPolicy& self, std::string_view format, const BiasMemory& memory,
             float current_amax) {
            return numerics::choose_bias(self, format_of(format), memory, current_amax);
          },
          nb::arg("format"), nb::arg("memory"), nb::arg("current_amax"))
      .def(
          "note",
          [](const BiasPolicy& self, int bias, const Counts& counts, std::int64_t elements,
             BiasMemory& memory) {
            const auto& [amax, saturated, zeroed, not_finite] = counts;
            numerics::note_step(self, bias, {amax, saturated, zeroed, not_finite, {}}, elements,
                                memory);
          },
          nb::arg("bias"), nb::arg("counts"), nb::arg("elements"), nb::arg("memory"));
}

}  // namespace

// Positional arguments alone: opendojo.numerics is the interface.
void bind_numerics(nb::module_& parent) {
  nb::module_ module = parent.def_submodule("numerics", "Kernels of opendojo.numerics.");
  bind_enums(module);
  bind_types(module);
  bind_sums(module);
  bind_bias(module);
  bind_bias_policy(module);
  module.def("encode", &encode);
  module.def("decode", &decode);
  module.def("encode_mx", &encode_mx);
  module.def("decode_mx", &decode_mx);
  module.def("amax", &amax);
  module.def("matmul", &matmul, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg().none(), nb::arg(), nb::arg());
  module.def("convolution", &convolution, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg());
  module.def("convolution_input_gradient", &convolution_gradient<GradientOf::Input>);
  module.def("convolution_weight_gradient", &convolution_gradient<GradientOf::Weight>);
}

}  // namespace dojo::bindings
