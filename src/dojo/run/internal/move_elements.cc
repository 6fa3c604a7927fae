#include "dojo/run/internal/move_elements.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <cwchar>
#include <functional>
#include <vector>

#include "dojo/base/check.h"

namespace dojo::run::internal {
namespace {

// PERF: the C library fills with the widest stores that the CPU has; 4 bytes are what broadcast
// constants (a channel's mean, say) have.
template <class T>
void fill(T* out, std::int64_t count, T value) {
  if constexpr (sizeof(T) == sizeof(wchar_t)) {
    std::wmemset(reinterpret_cast<wchar_t*>(out), static_cast<wchar_t>(value),
                 static_cast<std::size_t>(count));
  } else {
    std::fill(out, out + count, value);
  }
}

// Elements [first, first + count) of the nested runs, one after the other.
template <class T>
void gather(const T* base, std::span<const Run> runs, std::int64_t first, std::int64_t count,
            T* out) {
  std::array<std::int64_t, 16> at{};
  DOJO_CHECK(runs.size() <= at.size());
  std::int64_t offset = 0;
  for (std::size_t i = runs.size(); i-- > 0;) {
    at[i] = first % runs[i].extent;
    first /= runs[i].extent;
    offset += at[i] * runs[i].stride;
  }
  const std::size_t inner = runs.size() - 1;
  const std::int64_t stride = runs[inner].stride;
  while (count > 0) {
    const std::int64_t length = std::min(count, runs[inner].extent - at[inner]);
    const T* from = base + offset;
    if (stride == 1) {
      std::memcpy(out, from, static_cast<std::size_t>(length) * sizeof(T));
    } else if (stride == 0) {
      fill(out, length, *from);
    } else {
      for (std::int64_t i = 0; i < length; ++i) {
        out[i] = from[i * stride];
      }
    }
    out += length;
    count -= length;
    offset += length * stride;
    at[inner] += length;
    for (std::size_t i = inner; at[i] == runs[i].extent && i > 0; --i) {
      offset += runs[i - 1].stride - runs[i].extent * runs[i].stride;
      at[i] = 0;
      ++at[i - 1];
    }
  }
}

}  // namespace

void gather_bytes(std::int64_t width, const void* base, std::int64_t offset,
                  std::span<const Run> runs, std::int64_t first, std::int64_t count, void* out) {
  switch (width) {
    case 1:
      return gather(static_cast<const std::uint8_t*>(base) + offset, runs, first, count,
                    static_cast<std::uint8_t*>(out));
    case 2:
      return gather(static_cast<const std::uint16_t*>(base) + offset, runs, first, count,
                    static_cast<std::uint16_t*>(out));
    case 4:
      return gather(static_cast<const std::uint32_t*>(base) + offset, runs, first, count,
                    static_cast<std::uint32_t*>(out));
    default:
      return gather(static_cast<const std::uint64_t*>(base) + offset, runs, first, count,
                    static_cast<std::uint64_t*>(out));
  }
}

void copy_elements(ThreadPool& pool, std::int64_t width, const std::byte* base, std::int64_t offset,
                   std::span<const Run> runs, std::int64_t count, std::byte* out) {
  constexpr std::int64_t kGrain = std::int64_t{1} << 15;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    gather_bytes(width, base, offset, runs, begin, end - begin, out + begin * width);
  };
  pool.parallel_for(count, kGrain, std::ref(body));
}

namespace {

// Two nests of runs over the same elements, stepping together.
struct PairedRun {
  std::int64_t extent = 1;
  std::int64_t from = 0;
  std::int64_t to = 0;
};

std::vector<PairedRun> paired_runs(const View& from, const View& to) {
  std::vector<PairedRun> runs;
  for (std::size_t i = 0; i < from.shape.size(); ++i) {
    if (from.shape[i] == 1) {
      continue;
    }
    const PairedRun run{from.shape[i], from.strides[i], to.strides[i]};
    if (!runs.empty() && runs.back().from == run.from * run.extent &&
        runs.back().to == run.to * run.extent) {
      runs.back() = {runs.back().extent * run.extent, run.from, run.to};
    } else {
      runs.push_back(run);
    }
  }
  if (runs.empty()) {
    runs.push_back({1, 0, 0});
  }
  return runs;
}

template <class T>
void scatter_run(const std::byte* from, std::byte* to, const PairedRun& run) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (std::int64_t i = 0; i < run.extent; ++i) {
    target[i * run.to] = source[i * run.from];
  }
}

}  // namespace

void scatter_elements(ThreadPool& pool, std::int64_t width, const std::byte* from_data,
                      const View& from, std::byte* to_data, const View& to) {
  const std::vector<PairedRun> runs = paired_runs(from, to);
  const PairedRun inner = runs.back();
  const std::int64_t outer = from.elements() / inner.extent;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      std::int64_t rest = index;
      std::int64_t source = from.offset;
      std::int64_t target = to.offset;
      for (std::size_t i = runs.size() - 1; i-- > 0;) {
        source += rest % runs[i].extent * runs[i].from;
        target += rest % runs[i].extent * runs[i].to;
        rest /= runs[i].extent;
      }
      const std::byte* read = from_data + source * width;
      std::byte* written = to_data + target * width;
      if (inner.from == 1 && inner.to == 1) {
        std::memcpy(written, read, static_cast<std::size_t>(inner.extent * width));
      } else if (width == 1) {
        scatter_run<std::uint8_t>(read, written, inner);
      } else if (width == 2) {
        scatter_run<std::uint16_t>(read, written, inner);
      } else if (width == 4) {
        scatter_run<std::uint32_t>(read, written, inner);
      } else {
        scatter_run<std::uint64_t>(read, written, inner);
      }
    }
  };
  pool.parallel_for(outer, std::max<std::int64_t>(1, (1 << 15) / inner.extent), std::ref(body));
}

}  // namespace dojo::run::internal
