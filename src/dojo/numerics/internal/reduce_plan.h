// The order of a reduction as a list: ReduceCuts turned into the sequence of points that a kernel
// walks, and the segments at whose ends it closes a part (association.h is the definition).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "dojo/numerics/association.h"

namespace dojo::numerics::internal {

// Points folded one after the other. Cut loops make levels: level 0 chains the parts along the
// innermost cut loop, level 1 the totals of level 0 along the next cut loop outward, and so on. A
// loop with runs makes two: its parts in a run, then the runs.
struct Segment {
  std::int32_t points = 0;
  std::int32_t closes = 0;  // how many levels take a value after these points; 0: the part goes on
  std::uint32_t first = 0;  // bit i: for level i it is the first value of its chain
};

// One part: a box of the reduce space.
struct Part {
  std::span<const std::int64_t> begin;
  std::span<const std::int64_t> end;
  Segment segment;  // points = volume of the box
};

// How many levels the loops make that are really cut.
int cut_levels(std::span<const std::int64_t> extent, const ReduceCuts& cuts);

// All parts, in order. A space without points is one part of 0 points.
void for_each_part(std::span<const std::int64_t> extent, const ReduceCuts& cuts,
                   const std::function<void(const Part&)>& body);

// A piece of the sequence that a kernel takes in one call.
struct Chunk {
  std::int64_t first_point = 0;
  std::int64_t points = 0;
  std::int64_t first_segment = 0;
  std::int64_t segments = 0;
  bool resumes = false;  // begins inside a part
};

// Segments cut further, so that they group into chunks of at most `chunk_points` points. A part is
// cut at multiples of `group` <= chunk_points of its points only.
struct Chunked {
  std::vector<Segment> segments;
  std::vector<Chunk> chunks;
};
Chunked into_chunks(std::span<const Segment> segments, std::int64_t chunk_points,
                    std::int64_t group = 1);

}  // namespace dojo::numerics::internal
