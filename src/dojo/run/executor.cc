#include "dojo/run/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/verify.h"
#include "dojo/run/internal/memory.h"
#include "dojo/run/internal/plan.h"
#include "dojo/run/internal/plan_listing.h"
#include "dojo/run/internal/rounded_tensors.h"
#include "dojo/run/internal/task_runner.h"
#include "dojo/run/memory_plan.h"

namespace dojo::run {

using graph::Graph;
using graph::Value;
using graph::ValueKind;
using internal::AlignedBytes;
using internal::Buffer;
using internal::BufferId;
using internal::expect_type;
using internal::name_of;
using internal::Part;
using internal::Place;
using internal::Plan;
using internal::show;
using internal::StepContext;

namespace {

constexpr int kMaxThreads = 256;

}  // namespace

class Executor::Impl {
 public:
  Impl(Graph graph, Plan plan, std::vector<std::uint32_t> ids, std::string sha256,
       const ExecutorOptions& options)
      : graph_(std::move(graph)),
        plan_(std::move(plan)),
        ids_(std::move(ids)),
        rounded_(graph_, plan_, ids_),
        sha256_(std::move(sha256)),
        isa_(options.isa),
        unit_(options.unit),
        seed_(options.seed),
        pool_(options.threads),
        tasks_(graph_, plan_, rounded_, pool_),
        arena_(plan_.arena_size.count()) {
    lay_out_leaves();
    point_at_memory();
  }

  const Graph& graph() const { return graph_; }
  int threads() const { return pool_.threads(); }
  std::int64_t completed_steps() const { return completed_steps_; }
  std::uint64_t seed() const { return seed_; }
  Bytes arena_bytes() const { return plan_.arena_size; }
  Bytes saved_bytes() const { return plan_.saved_size; }

  Result<void> write(const TensorInput& tensor) {
    DOJO_TRY(const ValueId id, leaf_labelled(tensor.label));
    const Value& value = graph_.value(id);
    const bool encodes = is_float(value.format) && tensor.format == Format::F32;
    Value expected = value;
    expected.format = encodes ? Format::F32 : value.format;
    DOJO_TRY_VOID(expect_type(tensor, expected));
    DOJO_TRY(const int bias, internal::bias_of_written(tensor, value, graph_.lowering->bias));
    const BufferId buffer = buffer_of(id);
    if (encodes && value.format != Format::F32) {
      numerics::encode(
          pool_, internal::as_floats(tensor.bytes), {value.format, bias, denormal_scale()}, {},
          {data_[buffer.index], static_cast<std::size_t>(stored_bytes(value).count())}, isa_);
    } else {
      std::memcpy(data_[buffer.index], tensor.bytes.data(), tensor.bytes.size());
    }
    bias_[buffer.index] = bias;
    is_written_[id.index] = true;
    return {};
  }

  Result<TensorOutput> read(std::string_view label) const {
    DOJO_TRY(const ValueId id, leaf_labelled(label));
    const Value& value = graph_.value(id);
    const BufferId buffer = buffer_of(id);
    return TensorOutput{value.format, bias_[buffer.index], value.shape, bytes_at(buffer, 0, value)};
  }

  Result<TensorOutput> output(std::string_view label) const {
    std::vector<std::string> labels;
    for (const internal::PlannedOutput& output : plan_.outputs) {
      if (output.label == label) {
        if (ran_ == Ran::Nothing || (ran_ == Ran::Forward && !output.is_forward)) {
          return Error{ErrorKind::InvalidInput,
                       fmt::format("output {} has no value before the {}", quoted(label),
                                   ran_ == Ran::Nothing ? "first step" : "backward part has run")};
        }
        const Value& value = graph_.value(output.value);
        return TensorOutput{value.format, bias_[output.view.buffer.index], value.shape,
                            bytes_at(output.view.buffer, output.view.offset, value)};
      }
      labels.push_back(output.label);
    }
    return Error{ErrorKind::NotFound,
                 fmt::format("graph {} has no output {}{}", quoted(graph_.name), quoted(label),
                             suggestion(label, labels))};
  }

  std::vector<std::string> outputs(bool is_forward) const {
    std::vector<std::string> labels;
    for (const internal::PlannedOutput& output : plan_.outputs) {
      if (output.is_forward == is_forward) {
        labels.push_back(output.label);
      }
    }
    return labels;
  }

  Result<void> step(std::span<const TensorInput> inputs) {
    DOJO_TRY_VOID(take_inputs(inputs, std::nullopt));
    DOJO_TRY_VOID(check_leaves_written());
    begin_step();
    DOJO_TRY_VOID(tasks_.run(make_context(completed_steps_), 0, plan_.tasks.size()));
    update_leaves();
    rounded_.end_step(Part::Whole, bias_);
    ran_ = Ran::All;
    ++completed_steps_;
    return {};
  }

  Result<void> forward(std::span<const TensorInput> inputs) {
    if (!plan_.is_in_two_parts) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("graph {} cannot run in two parts: a forward op stands after others",
                               quoted(graph_.name))};
    }
    DOJO_TRY_VOID(take_inputs(inputs, Part::Forward));
    DOJO_TRY_VOID(check_leaves_written());
    begin_step();
    DOJO_TRY_VOID(tasks_.run(make_context(completed_steps_), 0, plan_.forward_tasks));
    rounded_.end_step(Part::Forward, bias_);
    ran_ = Ran::Forward;
    ++completed_steps_;
    return {};
  }

  Result<void> backward(std::span<const TensorInput> inputs) {
    if (ran_ != Ran::Forward) {
      return Error{ErrorKind::InvalidInput,
                   "backward needs a forward before it, whose saved activations it reads once"};
    }
    DOJO_TRY_VOID(take_inputs(inputs, Part::Backward));
    ran_ = Ran::Nothing;
    DOJO_TRY_VOID(
        tasks_.run(make_context(completed_steps_ - 1), plan_.forward_tasks, plan_.tasks.size()));
    update_leaves();
    rounded_.end_step(Part::Backward, bias_);
    ran_ = Ran::All;
    return {};
  }

  State state() const { return {completed_steps_, seed_, sha256_, rounded_.memories()}; }

  Result<void> restore(const State& state) {
    const auto refuse = [&](std::string_view why) {
      return Error{
          ErrorKind::InvalidInput,
          fmt::format("this state belongs to another graph than {}: {}", quoted(graph_.name), why)};
    };
    if (state.graph_sha256 != sha256_) {
      return refuse(fmt::format("its lowered graph has the hash {}, this one {}",
                                state.graph_sha256, sha256_));
    }
    if (!rounded_.fit(state.biases) || state.completed_steps < 0) {
      return refuse("what it knows of biases does not match");
    }
    rounded_.set_memories(state.biases);
    completed_steps_ = state.completed_steps;
    seed_ = state.seed;
    ran_ = Ran::Nothing;
    return {};
  }

  std::vector<TensorLogRow> tensor_log() const { return rounded_.log(graph_, bias_); }
  std::vector<StoredTensor> stored_tensors() const {
    return internal::stored_tensors(graph_, plan_);
  }
  std::vector<TaskTime> profile() const { return tasks_.profile(); }

 private:
  enum class Ran : std::uint8_t { Nothing, Forward, All };  // of the last step, without an error

  numerics::DenormalScale denormal_scale() const {
    return graph_.lowering->denormals == graph::Denormals::Paper ? numerics::DenormalScale::Paper
                                                                 : numerics::DenormalScale::Gradual;
  }

  BufferId buffer_of(ValueId id) const { return plan_.views[id.index]->buffer; }

  std::span<const std::byte> bytes_at(BufferId buffer, std::int64_t offset,
                                      const Value& value) const {
    const std::int64_t width = bytes_of(value.format);
    return {data_[buffer.index] + offset * width,
            static_cast<std::size_t>(graph::element_count(value.shape) * width)};
  }

  // Errors name the leaves that are meant: those that live from step to step.
  Result<ValueId> leaf_labelled(std::string_view label) const {
    std::vector<std::string> labels;
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if (value.kind == ValueKind::Op || value.kind == ValueKind::Input) {
        continue;
      }
      if (value.label == label) {
        return ValueId{i};
      }
      labels.push_back(value.label);
    }
    return Error{ErrorKind::NotFound,
                 fmt::format("graph {} has no weight, buffer or state {}{}", quoted(graph_.name),
                             quoted(label), suggestion(label, labels))};
  }

  void lay_out_leaves() {
    std::int64_t size = 0;
    leaf_offset_.assign(plan_.buffers.size(), 0);
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const Buffer& buffer = plan_.buffers[i];
      const bool is_own = buffer.place == Place::Leaf && plan_.leaf_of[i].index == i;
      if (is_own || buffer.place == Place::Constant) {
        leaf_offset_[i] = size;
        const std::int64_t bytes = buffer.elements * bytes_of(buffer.format);
        size += (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
      }
    }
    leaves_.emplace(size);
    is_written_.assign(graph_.values.size(), false);
  }

  void point_at_memory() {
    data_.assign(plan_.buffers.size(), nullptr);
    bias_.assign(plan_.buffers.size(), 0);
    stream_.assign(plan_.buffers.size(), 0);
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      const Buffer& buffer = plan_.buffers[i];
      if (buffer.place == Place::Arena) {
        data_[i] = arena_.get() + plan_.arena_offset[i];
      } else if (buffer.place == Place::Leaf) {
        data_[i] = leaves_->get() + leaf_offset_[plan_.leaf_of[i].index];
      } else if (buffer.place == Place::Constant) {
        data_[i] = leaves_->get() + leaf_offset_[i];
        std::visit([&](auto number) { std::memcpy(data_[i], &number, sizeof number); },
                   buffer.constant);
      }
      if (buffer.value.has_value()) {
        stream_[i] = ids_[buffer.value->index];
      }
    }
  }

  Result<void> check_leaves_written() const {
    for (std::size_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if ((value.kind == ValueKind::Weight || value.kind == ValueKind::Buffer) && !is_written_[i]) {
        return Error{ErrorKind::InvalidInput,
                     fmt::format("{} {} has no value yet: write it before the first step",
                                 name_of(value.kind), quoted(value.label))};
      }
    }
    return {};
  }

  void begin_step() {
    ran_ = Ran::Nothing;
    rounded_.begin_step();
  }

  void update_leaves() {
    for (const internal::LeafUpdate& update : plan_.updates) {
      if (!update.is_in_place) {
        const Buffer& target = plan_.buffers[update.target.index];
        const std::int64_t width = bytes_of(target.format);
        std::memcpy(data_[update.target.index],
                    data_[update.source.buffer.index] + update.source.offset * width,
                    static_cast<std::size_t>(target.elements * width));
      }
      bias_[update.target.index] = bias_[update.source.buffer.index];
    }
  }

  bool is_read_in(BufferId input, Part part) const {
    const internal::ReadInParts& read = plan_.reads[input.index];
    return part == Part::Forward ? read.forward : read.later;
  }

  // Without a part, all inputs must be there.
  Result<void> take_inputs(std::span<const TensorInput> inputs, std::optional<Part> part) {
    std::size_t expected = 0;
    for (std::uint32_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if (value.kind != ValueKind::Input) {
        continue;
      }
      const auto given = std::find_if(inputs.begin(), inputs.end(), [&](const TensorInput& each) {
        return each.label == value.label;
      });
      if (given == inputs.end() && part.has_value() && !is_read_in(buffer_of(ValueId{i}), *part)) {
        continue;
      }
      ++expected;
      if (given == inputs.end()) {
        return Error{ErrorKind::InvalidInput,
                     fmt::format("input {} ({}) is missing", quoted(value.label),
                                 show(value.format, value.shape))};
      }
      DOJO_TRY_VOID(expect_type(*given, value));
      // Inputs are only read.
      data_[buffer_of(ValueId{i}).index] = const_cast<std::byte*>(given->bytes.data());
    }
    if (inputs.size() != expected) {
      return unexpected_input(inputs);
    }
    return {};
  }

  Error unexpected_input(std::span<const TensorInput> inputs) const {
    std::map<std::string_view, int> count;
    std::vector<std::string> labels;
    for (const Value& value : graph_.values) {
      if (value.kind == ValueKind::Input) {
        ++count[value.label];
        labels.push_back(value.label);
      }
    }
    for (const TensorInput& input : inputs) {
      if (--count[input.label] < 0) {
        return Error{ErrorKind::InvalidInput,
                     fmt::format("input {} is not expected, or given twice{}", quoted(input.label),
                                 suggestion(input.label, labels))};
      }
    }
    return Error{ErrorKind::InvalidInput, "inputs do not match the graph"};
  }

  StepContext make_context(std::int64_t step) {
    StepContext context;
    context.pool = &pool_;
    context.isa = isa_;
    context.unit = unit_;
    context.denormals = denormal_scale();
    context.seed = seed_;
    context.step = static_cast<std::uint32_t>(step);
    context.buffers = plan_.buffers.data();
    context.data = data_.data();
    context.bias = bias_.data();
    context.stream = stream_.data();
    return context;
  }

  Graph graph_;
  Plan plan_;
  std::vector<std::uint32_t> ids_;
  internal::RoundedTensors rounded_;
  std::string sha256_;
  numerics::Isa isa_;
  numerics::ProductUnit unit_;
  std::uint64_t seed_;
  ThreadPool pool_;
  internal::TaskRunner tasks_;
  AlignedBytes arena_;
  std::optional<AlignedBytes> leaves_;
  std::vector<std::int64_t> leaf_offset_;  // by buffer
  std::vector<std::byte*> data_;           // by buffer
  std::vector<int> bias_;                  // by buffer
  std::vector<std::uint32_t> stream_;      // by buffer
  std::vector<bool> is_written_;           // by value
  std::int64_t completed_steps_ = 0;
  Ran ran_ = Ran::Nothing;
};

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;

Result<Executor> Executor::create(Graph graph, const ExecutorOptions& options) {
  if (!graph.is_lowered()) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("graph {} is not lowered: lower it with a recipe first", quoted(graph.name))};
  }
  if (options.threads < 1 || options.threads > kMaxThreads) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("threads is {}, expected 1 to {}", options.threads, kMaxThreads)};
  }
  DOJO_TRY_VOID(graph::verify(graph));
  DOJO_TRY(std::vector<std::uint32_t> ids, graph::tensor_ids(graph));
  DOJO_TRY(Plan plan, internal::make_plan(graph, ids));
  std::string sha256 = graph::graph_sha256(graph);
  return Executor(std::make_unique<Impl>(std::move(graph), std::move(plan), std::move(ids),
                                         std::move(sha256), options));
}

const Graph& Executor::graph() const { return impl_->graph(); }
int Executor::threads() const { return impl_->threads(); }
Result<void> Executor::write(const TensorInput& tensor) { return impl_->write(tensor); }
Result<TensorOutput> Executor::read(std::string_view label) const { return impl_->read(label); }
Result<void> Executor::step(std::span<const TensorInput> inputs) { return impl_->step(inputs); }
std::vector<std::string> Executor::forward_outputs() const { return impl_->outputs(true); }
std::vector<std::string> Executor::later_outputs() const { return impl_->outputs(false); }
Result<void> Executor::forward(std::span<const TensorInput> inputs) {
  return impl_->forward(inputs);
}
Result<void> Executor::backward(std::span<const TensorInput> inputs) {
  return impl_->backward(inputs);
}
Result<TensorOutput> Executor::output(std::string_view label) const { return impl_->output(label); }
std::int64_t Executor::completed_steps() const { return impl_->completed_steps(); }
std::uint64_t Executor::seed() const { return impl_->seed(); }
State Executor::state() const { return impl_->state(); }
Result<void> Executor::restore(const State& state) { return impl_->restore(state); }
Bytes Executor::arena_bytes() const { return impl_->arena_bytes(); }
Bytes Executor::saved_bytes() const { return impl_->saved_bytes(); }
std::vector<TensorLogRow> Executor::tensor_log() const { return impl_->tensor_log(); }
std::vector<StoredTensor> Executor::stored_tensors() const { return impl_->stored_tensors(); }
std::vector<TaskTime> Executor::profile() const { return impl_->profile(); }

}  // namespace dojo::run
