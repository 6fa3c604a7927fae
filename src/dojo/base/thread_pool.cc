#include "dojo/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "dojo/base/check.h"

namespace dojo {
namespace {

// PERF: a training step is some hundred short loops; a worker that sleeps at once pays a futex
// wake-up per loop. 2,000 pauses are some tens of microseconds, then it sleeps. With more threads
// than cores it would take the time of those that work.
int spins_of(int threads) {
  constexpr int kSpins = 2000;
  if (threads == 1) {  // nobody to wait for; PERF: the number of cores is read from a file
    return 0;
  }
  const unsigned cores = std::thread::hardware_concurrency();  // 0: unknown
  return cores != 0 && static_cast<unsigned>(threads) > cores ? 0 : kSpins;
}

}  // namespace

// One word says which loop runs, whether workers may still join it, and how many are inside. A loop
// ends when its iterations are claimed and those inside have left: nobody waits for a worker that
// is still asleep, and one that wakes up late finds the gate closed.
struct ThreadPool::State {
  explicit State(int threads) : spins(spins_of(threads)) {}

  static constexpr std::uint64_t kInside = 0xFFFF;  // low bits: workers inside
  static constexpr std::uint64_t kOpen = 0x10000;
  static constexpr int kNumberShift = 17;  // above: the loop's number

  const int spins;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::atomic<std::uint64_t> gate = 0;
  std::atomic<bool> stopping = false;
  std::atomic<std::int64_t> next = 0;  // next unclaimed iteration
  std::int64_t count = 0;
  std::int64_t grain = 1;
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::vector<std::thread> workers;

  std::uint64_t number() const { return gate.load() >> kNumberShift; }
  bool is_empty() const { return (gate.load() & kInside) == 0; }

  void work() {
    while (true) {
      const std::int64_t begin = next.fetch_add(grain);
      if (begin >= count) {
        return;
      }
      (*body)(begin, std::min(count, begin + grain));
    }
  }

  // Joins the loop of that number, unless it is closed.
  bool enter(std::uint64_t loop) {
    std::uint64_t seen = gate.load();
    while ((seen & kOpen) != 0 && seen >> kNumberShift == loop) {
      if (gate.compare_exchange_weak(seen, seen + 1)) {
        return true;
      }
    }
    return false;
  }

  void leave() {
    const std::uint64_t before = gate.fetch_sub(1);
    if ((before & kOpen) == 0 && (before & kInside) == 1) {
      const std::lock_guard lock(mutex);
      done.notify_one();
    }
  }

  void run() {
    std::uint64_t last = 0;
    while (true) {
      for (int spin = 0; spin < spins && number() == last && !stopping; ++spin) {
        __builtin_ia32_pause();
      }
      if (number() == last && !stopping) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return number() != last || stopping; });
      }
      if (stopping) {
        return;
      }
      last = number();
      if (enter(last)) {
        work();
        leave();
      }
    }
  }

  // Opens the gate of the next loop.
  void open() {
    const std::lock_guard lock(mutex);
    gate.store((number() + 1) << kNumberShift | kOpen);
  }

  // Closes it and waits for those inside.
  void close() {
    gate.fetch_and(~kOpen);
    for (int spin = 0; spin < spins && !is_empty(); ++spin) {
      __builtin_ia32_pause();
    }
    if (!is_empty()) {
      std::unique_lock lock(mutex);
      done.wait(lock, [&] { return is_empty(); });
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(threads)) {
  DOJO_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) {
    state_->workers.emplace_back([state = state_.get()] { state->run(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) {
    worker.join();
  }
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(std::int64_t count, std::int64_t grain,
                              const std::function<void(std::int64_t, std::int64_t)>& body) {
  DOJO_CHECK(grain >= 1);
  if (count <= 0) {
    return;
  }
  if (state_->workers.empty() || count <= grain) {
    for (std::int64_t begin = 0; begin < count; begin += grain) {
      body(begin, std::min(count, begin + grain));
    }
    return;
  }
  State& state = *state_;
  state.count = count;
  state.grain = grain;
  state.body = &body;
  state.next = 0;
  state.open();
  state.wake.notify_all();
  state.work();
  state.close();
}

}  // namespace dojo
