#include "dojo/run/internal/view.h"

#include "dojo/base/check.h"

namespace dojo::run::internal {

std::vector<std::int64_t> contiguous_strides(const graph::Shape& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

View contiguous_view(BufferId buffer, graph::Shape shape) {
  View view{buffer, 0, std::move(shape), {}};
  view.strides = contiguous_strides(view.shape);
  return view;
}

bool View::is_contiguous() const {
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != stride) {
      return false;
    }
    stride *= shape[i];
  }
  return true;
}

std::optional<View> reshaped(const View& view, const graph::Shape& shape) {
  DOJO_CHECK(graph::element_count(shape) == view.elements());
  View result{view.buffer, view.offset, shape, contiguous_strides(shape)};
  if (view.is_contiguous() || view.elements() == 0) {
    return result;
  }
  // Every run of the view must be a product of neighbouring extents of the new shape.
  const std::vector<Run> runs = runs_of(view);
  std::size_t dim = shape.size();
  for (std::size_t r = runs.size(); r-- > 0;) {
    std::int64_t covered = 1;
    while (covered < runs[r].extent) {
      if (dim == 0) {
        return std::nullopt;
      }
      --dim;
      result.strides[dim] = runs[r].stride * covered;
      covered *= shape[dim];
    }
    if (covered != runs[r].extent) {
      return std::nullopt;
    }
  }
  while (dim > 0) {  // only extents of 1 are left
    result.strides[--dim] = 0;
  }
  return result;
}

View permuted(const View& view, const std::vector<std::int64_t>& order) {
  View result{view.buffer, view.offset, {}, {}};
  for (const std::int64_t dim : order) {
    result.shape.push_back(view.shape[static_cast<std::size_t>(dim)]);
    result.strides.push_back(view.strides[static_cast<std::size_t>(dim)]);
  }
  return result;
}

View broadcast_to(const View& view, const graph::Shape& shape) {
  DOJO_CHECK(view.shape.size() <= shape.size());
  View result{view.buffer, view.offset, shape, std::vector<std::int64_t>(shape.size(), 0)};
  const std::size_t lead = shape.size() - view.shape.size();
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    DOJO_CHECK(view.shape[i] == 1 || view.shape[i] == shape[lead + i]);
    result.strides[lead + i] = view.shape[i] == 1 ? 0 : view.strides[i];
  }
  return result;
}

View sliced(const View& view, std::int64_t dim, std::int64_t start, std::int64_t extent,
            std::int64_t step) {
  View result = view;
  const auto at = static_cast<std::size_t>(dim);
  result.offset += start * view.strides[at];
  result.shape[at] = extent;
  result.strides[at] = view.strides[at] * step;
  return result;
}

View selected(const View& view, std::int64_t dim, std::int64_t index) {
  View result = view;
  result.offset += index * view.strides[static_cast<std::size_t>(dim)];
  result.shape.erase(result.shape.begin() + dim);
  result.strides.erase(result.strides.begin() + dim);
  return result;
}

View unsqueezed(const View& view, std::int64_t dim) {
  View result = view;
  result.shape.insert(result.shape.begin() + dim, 1);
  result.strides.insert(result.strides.begin() + dim, 0);
  return result;
}

View reversed(const View& view, std::int64_t dim) {
  View result = view;
  const auto at = static_cast<std::size_t>(dim);
  result.offset += (view.shape[at] - 1) * view.strides[at];
  result.strides[at] = -view.strides[at];
  return result;
}

std::vector<Run> runs_of(const View& view) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] == 1) {
      continue;
    }
    if (!runs.empty() && runs.back().stride == view.strides[i] * view.shape[i]) {
      runs.back() = {runs.back().extent * view.shape[i], view.strides[i]};
    } else {
      runs.push_back({view.shape[i], view.strides[i]});
    }
  }
  if (runs.empty()) {
    runs.push_back({1, 0});
  }
  return runs;
}

}  // namespace dojo::run::internal
