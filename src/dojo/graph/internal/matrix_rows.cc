// Matrix products and convolutions.
#include <array>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

constexpr PointCost kMac{.macs = 1};
constexpr PointCost kAdd{.vector_ops = 1};

// --- matrix products ---
// The factors are operands `first` and `first + 1`: [m,k] x [k,n], with a leading batch or not.
Result<InferredTypes> infer_product(const OpCall& call, std::size_t first, std::size_t rank) {
  for (std::size_t i = first; i < first + 2; ++i) {
    DOJO_TRY_VOID(expect_rank(call, i, rank, rank));
    DOJO_TRY_VOID(expect_factor(call, i));
  }
  const Shape& left = call.shape(first);
  const Shape& right = call.shape(first + 1);
  const bool fits = left[rank - 1] == right[rank - 2] && (rank == 2 || left[0] == right[0]);
  if (!fits) {
    return invalid("cannot multiply {} by {}: the inner extents{} must be equal", show(left),
                   show(right), rank == 3 ? " and the batches" : "");
  }
  Shape result = left;
  result[rank - 1] = right[rank - 1];
  return single(Format::F32, result);
}

Result<InferredTypes> infer_mm(const OpCall& call) { return infer_product(call, 0, 2); }
Result<InferredTypes> infer_bmm(const OpCall& call) { return infer_product(call, 0, 3); }

Result<InferredTypes> infer_biased(const OpCall& call, std::size_t rank) {
  DOJO_TRY(InferredTypes types, infer_product(call, 1, rank));
  DOJO_TRY_VOID(expect_float(call, 0));
  if (float_attr(call, "alpha") != 1 || float_attr(call, "beta") != 1) {
    return unsupported("alpha and beta other than 1 are not supported yet");
  }
  const Shape& bias = call.shape(0);
  const Shape& result = types[0]->shape;
  const std::size_t missing = result.size() - std::min(result.size(), bias.size());
  bool fits = bias.size() <= result.size();
  for (std::size_t i = 0; fits && i < bias.size(); ++i) {
    fits = bias[i] == 1 || bias[i] == result[missing + i];
  }
  if (!fits) {
    return invalid("self has shape {}, which does not broadcast to {}", show(bias), show(result));
  }
  return types;
}

Result<InferredTypes> infer_addmm(const OpCall& call) { return infer_biased(call, 2); }
Result<InferredTypes> infer_baddbmm(const OpCall& call) { return infer_biased(call, 3); }

LoopNest product_nest(const OpCall& call) {
  const std::size_t first = call.info->operands.size() == 3 ? 1 : 0;
  const Shape& left = call.shape(first);
  const Shape& result = call.outputs[0]->shape;
  NestBuilder nest(call);
  std::vector<int> loops;
  if (result.size() == 3) {
    loops.push_back(nest.loop("b", result[0]));
  }
  std::vector<Access> batch = at_each(loops);
  loops.push_back(nest.loop("m", result[result.size() - 2]));
  loops.push_back(nest.loop("n", result[result.size() - 1]));
  const int m = loops[loops.size() - 2];
  const int n = loops.back();
  const int k = nest.loop("k", left.back());
  nest.stage("", BodyClass::Matrix).parallel(loops).reduce({k}).per_point(kMac);
  const auto with_batch = [&batch](int row, int column) {
    std::vector<Access> access = batch;
    access.push_back(at(row));
    access.push_back(at(column));
    return access;
  };
  nest.read(first, with_batch(m, k));
  nest.read(first + 1, with_batch(k, n));
  if (first == 1) {
    nest.read(0, broadcast_access(call.shape(0), loops, result));
    nest.per_result(kAdd);
  }
  nest.write(0, with_batch(m, n));
  return nest.finish();
}

// --- convolutions ---
// x: [batch, channels, spatial...]; w: [out channels, channels / groups, kernel...].
struct Convolution {
  Shape x;
  Shape w;
  Shape y;
  std::int64_t groups = 1;
  std::vector<std::int64_t> stride;
  std::vector<std::int64_t> padding;
  std::vector<std::int64_t> dilation;
  std::size_t spatial() const { return x.size() - 2; }
  std::int64_t channels_per_group() const { return x[1] / groups; }
  std::int64_t outputs_per_group() const { return w[0] / groups; }
};

Result<std::vector<std::int64_t>> geometry(const OpCall& call, std::string_view name,
                                           std::size_t spatial, std::int64_t least) {
  const std::vector<std::int64_t> values = ints_attr(call, name, spatial);
  bool is_right = values.size() == spatial;
  for (const std::int64_t value : values) {
    is_right = is_right && value >= least && value <= (std::int64_t{1} << 31);
  }
  if (!is_right) {
    return invalid("{} is {}, expected {} numbers from {} to 2^31", name, show(values), spatial,
                   least);
  }
  return values;
}

Result<Convolution> convolution_of(const OpCall& call, const Shape& x, const Shape& w) {
  if (x.size() < 3 || x.size() > 5 || w.size() != x.size()) {
    return invalid(
        "cannot convolve {} with {}: expected [batch, channels, spatial...] and "
        "[out channels, channels / groups, kernel...] with 1 to 3 spatial dimensions",
        show(x), show(w));
  }
  Convolution out{.x = x, .w = w, .y = {}, .stride = {}, .padding = {}, .dilation = {}};
  const std::size_t spatial = x.size() - 2;
  out.groups = int_attr(call, "groups");
  DOJO_TRY(out.stride, geometry(call, "stride", spatial, 1));
  DOJO_TRY(out.padding, geometry(call, "padding", spatial, 0));
  DOJO_TRY(out.dilation, geometry(call, "dilation", spatial, 1));
  if (out.groups < 1 || x[1] % out.groups != 0 || w[0] % out.groups != 0 ||
      x[1] / out.groups != w[1]) {
    return invalid("groups={} does not divide {} channels into the {} of the weight {}", out.groups,
                   x[1], w[1], show(w));
  }
  out.y = {x[0], w[0]};
  for (std::size_t i = 0; i < spatial; ++i) {
    const std::int64_t span = saturating_multiply(out.dilation[i], w[2 + i] - 1);
    const std::int64_t room = x[2 + i] + 2 * out.padding[i] - span - 1;
    if (room < 0) {
      return invalid("the kernel {} is larger than the padded input {}", show(w), show(x));
    }
    out.y.push_back(room / out.stride[i] + 1);
  }
  return out;
}

Result<void> expect_not_transposed(const OpCall& call) {
  if (bool_attr(call, "transposed")) {
    return unsupported("transposed=true is not supported yet");
  }
  for (const std::int64_t each : ints_attr(call, "output_padding")) {
    if (each != 0) {
      return invalid("output_padding needs transposed=true");
    }
  }
  return {};
}

Result<InferredTypes> infer_convolution(const OpCall& call) {
  DOJO_TRY_VOID(expect_not_transposed(call));
  DOJO_TRY_VOID(expect_factor(call, 0));
  DOJO_TRY_VOID(expect_factor(call, 1));
  DOJO_TRY(const Convolution conv, convolution_of(call, call.shape(0), call.shape(1)));
  if (call.has_input(2)) {
    DOJO_TRY_VOID(expect_float(call, 2));
    DOJO_TRY_VOID(expect_shape(call, 2, {conv.w[0]}));
  }
  return single(Format::F32, conv.y);
}

// Operand 0 is the gradient of y.
Result<void> expect_gradient(const OpCall& call, const Convolution& conv) {
  DOJO_TRY_VOID(expect_factor(call, 0));
  return expect_shape(call, 0, conv.y);
}

Result<InferredTypes> infer_conv_input_grad(const OpCall& call) {
  const Shape x = ints_attr(call, "input_size");
  DOJO_TRY(const Convolution conv, convolution_of(call, x, call.shape(1)));
  DOJO_TRY_VOID(expect_gradient(call, conv));
  DOJO_TRY_VOID(expect_factor(call, 1));
  return single(Format::F32, x);
}

Result<InferredTypes> infer_conv_weight_grad(const OpCall& call) {
  const Shape w = ints_attr(call, "weight_size");
  DOJO_TRY(const Convolution conv, convolution_of(call, call.shape(1), w));
  DOJO_TRY_VOID(expect_gradient(call, conv));
  DOJO_TRY_VOID(expect_factor(call, 1));
  return single(Format::F32, w);
}

Result<InferredTypes> infer_convolution_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_not_transposed(call));
  DOJO_TRY_VOID(expect_mask(call, "output_mask", 3));
  DOJO_TRY(const Convolution conv, convolution_of(call, call.shape(1), call.shape(2)));
  DOJO_TRY_VOID(expect_gradient(call, conv));
  DOJO_TRY_VOID(expect_factor(call, 1));
  DOJO_TRY_VOID(expect_factor(call, 2));
  const std::vector<bool> mask = mask_attr(call, "output_mask", 3);
  InferredTypes types(3);
  const std::array<Shape, 3> shapes{conv.x, conv.w, Shape{conv.w[0]}};
  for (std::size_t i = 0; i < 3; ++i) {
    if (mask[i]) {
      types[i] = TensorType{Format::F32, shapes[i]};
    }
  }
  return types;
}

// The loops of one convolution and the maps of the table of nests. Spatial loops are called
// [z] y x, the input's own positions [d] h w, the kernel's [kz] ky kx.
class ConvolutionNest {
 public:
  ConvolutionNest(const OpCall& call, const Convolution& conv) : conv_(conv), nest_(call) {}

  LoopNest forward(const OpCall& call) {
    declare_n_g();
    o_ = nest_.loop("o", conv_.outputs_per_group());
    y_ = outputs();
    c_ = nest_.loop("c", conv_.channels_per_group());
    k_ = kernel();
    nest_.stage("", BodyClass::Matrix).parallel({n_, g_, o_}).parallel(y_);
    nest_.reduce({c_}).reduce(k_).per_point(kMac);
    nest_.read(0, input_map());
    nest_.read(1, weight_map());
    if (call.has_input(2)) {
      nest_.read(2, {out_channel()});
      nest_.per_result(kAdd);
    }
    nest_.write(0, output_map());
    return nest_.finish();
  }

  LoopNest input_gradient() {
    declare_n_g();
    c_ = nest_.loop("c", conv_.channels_per_group());
    h_ = inputs();
    o_ = nest_.loop("o", conv_.outputs_per_group());
    k_ = kernel();
    add_input_gradient(0, 1, 0);
    return nest_.finish();
  }

  LoopNest weight_gradient() {
    g_ = nest_.loop("g", conv_.groups);
    o_ = nest_.loop("o", conv_.outputs_per_group());
    c_ = nest_.loop("c", conv_.channels_per_group());
    k_ = kernel();
    n_ = nest_.loop("n", conv_.x[0]);
    y_ = outputs();
    add_weight_gradient(0, 1, 0);
    return nest_.finish();
  }

  // Operands dY, X, W; the outputs that the mask asks for.
  LoopNest backward(const std::vector<bool>& mask) {
    declare_n_g();
    c_ = nest_.loop("c", conv_.channels_per_group());
    h_ = inputs();
    o_ = nest_.loop("o", conv_.outputs_per_group());
    k_ = kernel();
    y_ = outputs();
    if (mask[0]) {
      add_input_gradient(0, 2, 0);
    }
    if (mask[1]) {
      add_weight_gradient(0, 1, 1);
    }
    if (mask[2]) {
      nest_.stage("bias", BodyClass::Vector).parallel({g_, o_}).reduce({n_}).reduce(y_);
      nest_.per_point(kAdd).read(0, output_map());
      nest_.write(2, {out_channel()});
    }
    return nest_.finish();
  }

 private:
  static constexpr std::array<std::string_view, 3> kOutputNames{"z", "y", "x"};
  static constexpr std::array<std::string_view, 3> kInputNames{"d", "h", "w"};

  void declare_n_g() {
    n_ = nest_.loop("n", conv_.x[0]);
    g_ = nest_.loop("g", conv_.groups);
  }
  std::vector<int> spatial(const std::array<std::string_view, 3>& names, std::string_view prefix,
                           const Shape& shape) {
    std::vector<int> loops;
    for (std::size_t i = 0; i < conv_.spatial(); ++i) {
      loops.push_back(
          nest_.loop(fmt::format("{}{}", prefix, names[3 - conv_.spatial() + i]), shape[2 + i]));
    }
    return loops;
  }
  std::vector<int> outputs() { return spatial(kOutputNames, "", conv_.y); }
  std::vector<int> inputs() { return spatial(kInputNames, "", conv_.x); }
  std::vector<int> kernel() { return spatial(kOutputNames, "k", conv_.w); }

  Access out_channel() const { return affine(0, {{g_, conv_.outputs_per_group()}, {o_, 1}}); }
  Access in_channel() const { return affine(0, {{g_, conv_.channels_per_group()}, {c_, 1}}); }

  std::vector<Access> input_map() const {  // X[n, Cg g + c, s y + d ky - p, ...]
    std::vector<Access> map{at(n_), in_channel()};
    for (std::size_t i = 0; i < conv_.spatial(); ++i) {
      map.push_back(
          affine(-conv_.padding[i], {{y_[i], conv_.stride[i]}, {k_[i], conv_.dilation[i]}}));
    }
    return map;
  }
  std::vector<Access> weight_map() const {  // W[Og g + o, c, ky, kx]
    std::vector<Access> map{out_channel(), at(c_)};
    for (const int loop : k_) {
      map.push_back(at(loop));
    }
    return map;
  }
  std::vector<Access> output_map() const {  // Y[n, Og g + o, y, x]
    std::vector<Access> map{at(n_), out_channel()};
    for (const int loop : y_) {
      map.push_back(at(loop));
    }
    return map;
  }
  // dY[n, Og g + o, (h + p - d ky) / s, ...]; every pair of y and ky is one point.
  std::vector<Access> gathered_output_map() const {
    std::vector<Access> map{at(n_), out_channel()};
    for (std::size_t i = 0; i < conv_.spatial(); ++i) {
      map.push_back(Affine{.offset = conv_.padding[i],
                           .terms = {{h_[i], 1}, {k_[i], -conv_.dilation[i]}},
                           .divisor = conv_.stride[i],
                           .counted_loop = h_[i]});
    }
    return map;
  }

  void add_input_gradient(std::size_t gradient, std::size_t weight, std::size_t output) {
    nest_.stage("input", BodyClass::Matrix).parallel({n_, g_, c_}).parallel(h_);
    nest_.reduce({o_}).reduce(k_).per_point(kMac);
    nest_.read(gradient, gathered_output_map());
    nest_.read(weight, weight_map());
    std::vector<Access> map{at(n_), in_channel()};
    for (const int loop : h_) {
      map.push_back(at(loop));
    }
    nest_.write(output, std::move(map));
  }
  void add_weight_gradient(std::size_t gradient, std::size_t input, std::size_t output) {
    nest_.stage("weight", BodyClass::Matrix).parallel({g_, o_, c_}).parallel(k_);
    nest_.reduce({n_}).reduce(y_).per_point(kMac);
    nest_.read(gradient, output_map());
    nest_.read(input, input_map());
    nest_.write(output, weight_map());
  }

  const Convolution& conv_;
  NestBuilder nest_;
  int n_ = 0;
  int g_ = 0;
  int o_ = 0;
  int c_ = 0;
  std::vector<int> y_;  // output positions
  std::vector<int> h_;  // input positions
  std::vector<int> k_;  // kernel positions
};

LoopNest convolution_nest(const OpCall& call) {
  const auto conv = convolution_of(call, call.shape(0), call.shape(1));
  return ConvolutionNest(call, *conv).forward(call);
}

LoopNest conv_input_grad_nest(const OpCall& call) {
  const auto conv = convolution_of(call, ints_attr(call, "input_size"), call.shape(1));
  return ConvolutionNest(call, *conv).input_gradient();
}

LoopNest conv_weight_grad_nest(const OpCall& call) {
  const auto conv = convolution_of(call, call.shape(1), ints_attr(call, "weight_size"));
  return ConvolutionNest(call, *conv).weight_gradient();
}

LoopNest convolution_backward_nest(const OpCall& call) {
  const auto conv = convolution_of(call, call.shape(1), call.shape(2));
  return ConvolutionNest(call, *conv).backward(mask_attr(call, "output_mask", 3));
}

std::vector<AttributeInfo> convolution_attributes(std::vector<AttributeInfo> more) {
  std::vector<AttributeInfo> out{per_dimension("stride", {1}), per_dimension("padding", {0}),
                                 per_dimension("dilation", {1}),
                                 defaulted("groups", std::int64_t{1})};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

OpInfo product_row(std::string_view name, std::vector<OperandInfo> operands, InferFunction infer,
                   std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Matrix;
  row.operands = std::move(operands);
  if (row.operands.size() == 3) {
    row.attributes = {defaulted_scalar("beta", 1), defaulted_scalar("alpha", 1)};
  }
  row.infer = infer;
  row.nest = product_nest;
  row.doc = doc;
  return row;
}

OpInfo convolution_row(std::string_view name, std::vector<OperandInfo> operands,
                       std::vector<AttributeInfo> attributes, InferFunction infer,
                       NestFunction nest, std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Matrix;
  row.operands = std::move(operands);
  row.attributes = convolution_attributes(std::move(attributes));
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_matrix_rows(std::vector<OpInfo>& rows) {
  rows.push_back(
      product_row("aten.mm", {{"self"}, {"mat2"}}, infer_mm, "matrix product [m,k] x [k,n]"));
  rows.push_back(product_row("aten.bmm", {{"self"}, {"mat2"}}, infer_bmm,
                             "a matrix product per batch, [b,m,k] x [b,k,n]"));
  rows.push_back(product_row("aten.addmm", {{"self"}, {"mat1"}, {"mat2"}}, infer_addmm,
                             "self + mat1 x mat2; self broadcasts"));
  rows.push_back(product_row("aten.baddbmm", {{"self"}, {"batch1"}, {"batch2"}}, infer_baddbmm,
                             "self + batch1 x batch2, a matrix product per batch"));

  const std::vector<AttributeInfo> transposed{defaulted("transposed", false),
                                              per_dimension("output_padding", {0})};
  rows.push_back(convolution_row("aten.convolution", {{"input"}, {"weight"}, {"bias", true}},
                                 transposed, infer_convolution, convolution_nest,
                                 "cross-correlation in 1 to 3 dimensions, with groups"));
  std::vector<AttributeInfo> backward = transposed;
  backward.push_back(optional("bias_sizes", AttributeType::Ints));
  backward.push_back(required("output_mask", AttributeType::Ints));
  rows.push_back(convolution_row(
      "aten.convolution_backward", {{"grad_output"}, {"input"}, {"weight"}}, backward,
      infer_convolution_backward, convolution_backward_nest,
      "gradients of input, weight and bias, those that output_mask asks for; lowering splits it "
      "into the two ops below and a sum"));
  rows.back().outputs = 3;
  rows.back().is_unlowered_only = true;
  rows.push_back(convolution_row("dojo.conv_input_grad", {{"grad_output"}, {"weight"}},
                                 {required("input_size", AttributeType::Ints)},
                                 infer_conv_input_grad, conv_input_grad_nest,
                                 "gradient of a convolution with respect to its input"));
  rows.push_back(convolution_row("dojo.conv_weight_grad", {{"grad_output"}, {"input"}},
                                 {required("weight_size", AttributeType::Ints)},
                                 infer_conv_weight_grad, conv_weight_grad_nest,
                                 "gradient of a convolution with respect to its weight"));
}

}  // namespace dojo::graph
