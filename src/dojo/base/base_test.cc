#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/philox.h"
#include "dojo/base/result.h"
#include "dojo/base/text.h"
#include "dojo/base/thread_pool.h"

namespace dojo {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) {
    return Error{ErrorKind::InvalidInput, "odd", Location{"f.txt", 3, 7}};
  }
  return value / 2;
}

Result<int> quarter(int value) {
  DOJO_TRY(const int once, half(value));
  DOJO_TRY(const int twice, half(once));
  return twice;
}

TEST(Result, TryHandsTheErrorUpWithItsPlace) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().to_string(), "f.txt:3:7: odd");
}

// The known-answer vectors of Random123's kat_vectors for philox4x32-10.
TEST(Philox, MatchesTheAuthorsKnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, EachElementHasItsOwnField) {
  const RandomStream stream{.seed = 7, .tensor = 3, .step = 5};
  const PhiloxCounter words = stream.block(2);
  EXPECT_EQ(stream.bits16(16), words[0] & 0xffff);
  EXPECT_EQ(stream.bits16(17), words[0] >> 16);
  EXPECT_EQ(stream.bits16(23), words[3] >> 16);
}

TEST(Format, NamesRoundTrip) {
  for (const FormatInfo& row : kFormats) {
    EXPECT_EQ(format_named(row.name), row.format);
  }
  EXPECT_FALSE(format_named("cf8").has_value());
}

TEST(Text, SuggestsTheNearestName) {
  const std::vector<std::string> names{"training-tile", "d1", "exapod"};
  EXPECT_EQ(suggestion("trainig-tile", names), " (nearest: training-tile)");
  EXPECT_EQ(suggestion("tile", names), " (nearest: training-tile)");
  EXPECT_EQ(suggestion("zzzzzzzzz", names), "");
}

TEST(Text, QuotesEscapeWhatATerminalWouldObey) {
  EXPECT_EQ(quoted("a\"b\x1b"), "\"a\\\"b\\u001b\"");
}

TEST(Text, Sha256MatchesTheStandardsExample) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Text, NumbersMustFillTheWholeText) {
  EXPECT_EQ(parse_int("-12").value(), -12);
  EXPECT_FALSE(parse_int("12x").has_value());
  EXPECT_FALSE(parse_int("99999999999999999999").has_value());
  EXPECT_DOUBLE_EQ(parse_double("0.5").value(), 0.5);
  EXPECT_FALSE(parse_double("inf").has_value());
  EXPECT_EQ(parse_double(shortest(0.1)).value(), 0.1);
}

TEST(WriteFileAtomically, LeavesTheOldFileWhenItCannotWrite) {
  const auto folder = std::filesystem::temp_directory_path() / ("dojo" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = folder / "x.txt";
  ASSERT_TRUE(write_file_atomically(path, "one").has_value());
  EXPECT_EQ(read_file(path).value(), "one");
  const auto refused = write_file_atomically(folder / "none" / "x.txt", "two");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("cannot write"), std::string::npos);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST(ThreadPool, CoversEachIterationOnceForAnyCount) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const int count : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      pool.parallel_for(count, 3, [&](std::int64_t begin, std::int64_t end) {
        EXPECT_LE(end - begin, 3);
        for (std::int64_t i = begin; i < end; ++i) {
          hits[static_cast<std::size_t>(i)]++;
        }
      });
      for (const auto& hit : hits) {
        EXPECT_EQ(hit.load(), 1);
      }
    }
  }
}

// Plain variables on purpose: a worker that came late into the next loop would be a data race.
TEST(ThreadPool, LoopsFollowEachOtherWhileWorkersWakeAndSleep) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(64);
  for (std::int64_t loop = 0; loop < 20'000; ++loop) {
    const std::int64_t count = loop % 64;
    pool.parallel_for(count, 1 + loop % 3, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        values[static_cast<std::size_t>(i)] += loop;
      }
    });
    for (std::int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(i)], loop);
    }
    std::fill(values.begin(), values.end(), 0);
    if (loop % 5'000 == 0) {  // long enough to fall asleep
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

}  // namespace
}  // namespace dojo
