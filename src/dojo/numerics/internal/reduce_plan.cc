#include "dojo/numerics/internal/reduce_plan.h"

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::numerics::internal {
namespace {

struct CutLoop {
  std::size_t loop = 0;
  std::int64_t block = 1;
  std::int64_t blocks = 1;
  std::int64_t run = 1;  // blocks in a run; all of them: one chain
  std::int64_t at = 0;   // the current block

  bool has_runs() const { return run < blocks; }
  bool is_last() const { return at + 1 == blocks; }
};

std::vector<CutLoop> cut_loops(std::span<const std::int64_t> extent, const ReduceCuts& cuts) {
  std::vector<CutLoop> loops;
  for (std::size_t i = 0; i < extent.size(); ++i) {
    const std::int64_t block = cuts.block_of(i, extent[i]);
    if (block < extent[i]) {
      const std::int64_t blocks = ceil_divide(extent[i], block);
      loops.push_back({i, block, blocks, cuts.run_of(i, blocks), 0});
    }
  }
  return loops;
}

Segment closing(std::span<const CutLoop> loops) {
  Segment segment;
  std::uint32_t level = 0;
  bool closes = true;  // all levels below end here
  const auto add_level = [&](bool is_first, bool is_last) {
    segment.first |= is_first ? 1u << level : 0u;
    segment.closes += closes ? 1 : 0;
    closes = closes && is_last;
    ++level;
  };
  for (std::size_t i = loops.size(); i-- > 0;) {
    const CutLoop& loop = loops[i];
    if (loop.has_runs()) {
      add_level(loop.at % loop.run == 0, loop.is_last() || (loop.at + 1) % loop.run == 0);
    }
    add_level(loop.at < (loop.has_runs() ? loop.run : 1), loop.is_last());
  }
  return segment;
}

bool advance(std::span<CutLoop> loops) {
  for (std::size_t i = loops.size(); i-- > 0;) {
    if (++loops[i].at < loops[i].blocks) {
      return true;
    }
    loops[i].at = 0;
  }
  return false;
}

}  // namespace

int cut_levels(std::span<const std::int64_t> extent, const ReduceCuts& cuts) {
  int levels = 0;
  for (const CutLoop& loop : cut_loops(extent, cuts)) {
    levels += loop.has_runs() ? 2 : 1;
  }
  return levels;
}

void for_each_part(std::span<const std::int64_t> extent, const ReduceCuts& cuts,
                   const std::function<void(const Part&)>& body) {
  if (std::find(extent.begin(), extent.end(), 0) != extent.end()) {
    const std::vector<std::int64_t> nothing(extent.size(), 0);
    body(Part{nothing, nothing, Segment{}});
    return;
  }
  std::vector<CutLoop> loops = cut_loops(extent, cuts);
  std::vector<std::int64_t> begin(extent.size(), 0);
  std::vector<std::int64_t> end(extent.begin(), extent.end());
  do {
    std::int64_t points = 1;
    for (const CutLoop& loop : loops) {
      begin[loop.loop] = loop.at * loop.block;
      end[loop.loop] = std::min(begin[loop.loop] + loop.block, extent[loop.loop]);
    }
    for (std::size_t i = 0; i < extent.size(); ++i) {
      points *= end[i] - begin[i];
    }
    DOJO_CHECK(points < (std::int64_t{1} << 31));
    Segment segment = closing(loops);
    segment.points = static_cast<std::int32_t>(points);
    body(Part{begin, end, segment});
  } while (advance(loops));
}

Chunked into_chunks(std::span<const Segment> segments, std::int64_t chunk_points,
                    std::int64_t group) {
  DOJO_CHECK(group <= chunk_points);
  Chunked out;
  Chunk chunk;
  bool inside_part = false;
  std::int64_t point = 0;
  const auto finish = [&] {
    if (chunk.segments > 0) {
      out.chunks.push_back(chunk);
    }
    chunk = {point, 0, static_cast<std::int64_t>(out.segments.size()), 0, inside_part};
  };
  for (const Segment& segment : segments) {
    Segment rest = segment;
    // A part that would fit a chunk of its own is not split.
    if (chunk.points > 0 && rest.points <= chunk_points &&
        chunk.points + rest.points > chunk_points) {
      finish();
    }
    while (chunk.points + rest.points > chunk_points) {
      const std::int64_t room = chunk_points - chunk.points;
      const std::int32_t taken = static_cast<std::int32_t>(room - room % group);
      if (taken == 0) {
        finish();
        continue;
      }
      out.segments.push_back({taken, 0, 0});
      ++chunk.segments;
      chunk.points += taken;
      point += taken;
      rest.points -= taken;
      inside_part = true;
      finish();
    }
    out.segments.push_back(rest);
    ++chunk.segments;
    chunk.points += rest.points;
    point += rest.points;
    inside_part = rest.closes == 0;
  }
  finish();
  return out;
}

}  // namespace dojo::numerics::internal
