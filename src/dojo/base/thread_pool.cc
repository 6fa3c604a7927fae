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
// wake-up per loop. 2,000 pauses are some tens of microseconds, then it sleeps.
constexpr int kSpins = 2000;

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::atomic<std::uint64_t> generation = 0;  // one per loop
  std::atomic<bool> stopping = false;
  std::atomic<std::int64_t> next = 0;  // next unclaimed iteration
  std::atomic<int> busy = 0;           // workers not yet finished with this loop
  std::int64_t count = 0;
  std::int64_t grain = 1;
  const std::function<void(std::int64_t, std::int64_t)>* body = nullptr;
  std::vector<std::thread> workers;

  void work() {
    while (true) {
      const std::int64_t begin = next.fetch_add(grain);
      if (begin >= count) {
        return;
      }
      (*body)(begin, std::min(count, begin + grain));
    }
  }

  void run() {
    std::uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && generation.load() == seen && !stopping; ++spin) {
        __builtin_ia32_pause();
      }
      if (generation.load() == seen && !stopping) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load() != seen || stopping; });
      }
      if (stopping) {
        return;
      }
      seen = generation.load();
      work();
      if (busy.fetch_sub(1) == 1) {
        const std::lock_guard lock(mutex);
        done.notify_one();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
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
  state.busy = static_cast<int>(state.workers.size());
  {
    const std::lock_guard lock(state.mutex);
    state.generation.fetch_add(1);
  }
  state.wake.notify_all();
  state.work();
  for (int spin = 0; spin < kSpins && state.busy.load() != 0; ++spin) {
    __builtin_ia32_pause();
  }
  if (state.busy.load() != 0) {
    std::unique_lock lock(state.mutex);
    state.done.wait(lock, [&] { return state.busy.load() == 0; });
  }
}

}  // namespace dojo
