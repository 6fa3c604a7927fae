// A fixed set of worker threads for loops whose iterations are independent. What a loop computes
// must not depend on which thread runs an iteration; then results are the same for any count.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace dojo {

class ThreadPool {
 public:
  // `threads` >= 1 in all, the calling thread included: ThreadPool(1) starts no worker.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(begin, end) for disjoint ranges that cover [0, count), each of at most `grain`
  // iterations (the last may be shorter), and returns when all are done. Not reentrant.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    const std::function<void(std::int64_t begin, std::int64_t end)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dojo
