// The memory that lowered graphs allocate and free again at every call, kept between calls; see tzwc/lowering/buffer_pool.py.
#pragma once

#include <c10/core/CPUAllocator.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>

namespace {

// One range of addresses, from whose beginning memory is taken first. Pages get memory when they are first touched,
// so what was never needed at the same time costs nothing, and huge ones where the system allows it.
class Arena {
 public:
  // False when the system does not give the addresses, as under a limit.
  bool reserve() {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) {
      return false;
    }
    const size_t wanted = static_cast<size_t>(pages) * static_cast<size_t>(page) / huge * huge;
    void* found = mmap(nullptr, wanted + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
      return false;
    }
    begin = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(found) + huge - 1) / huge * huge);
    size = wanted;
    madvise(begin, size, MADV_HUGEPAGE); // which a kernel may not know
    gaps.emplace(0, size);
    return true;
  }

  // Null when no gap is wide enough.
  void* take(size_t bytes) {
    const size_t length = (bytes + page_size - 1) / page_size * page_size + stagger;
    const std::lock_guard<std::mutex> lock(mutex);
    for (auto gap = gaps.begin(); gap != gaps.end(); ++gap) {
      if (gap->second < length) {
        continue;
      }
      const auto [offset, width] = *gap;
      gaps.erase(gap);
      if (width > length) {
        gaps.emplace(offset + length, width - length);
      }
      blocks.emplace(offset, length);
      in_use += length;
      reached = std::max(reached, offset + length);
      recent = std::max(recent, offset + length);
      return begin + offset;
    }
    return nullptr;
  }

  // Whether the memory was taken from here.
  bool give(void* memory) {
    char* const at = static_cast<char*>(memory);
    if (at < begin || at >= begin + size) {
      return false;
    }
    const std::lock_guard<std::mutex> lock(mutex);
    const auto block = blocks.find(static_cast<size_t>(at - begin));
    size_t offset = block->first, length = block->second;
    in_use -= length;
    blocks.erase(block);
    auto after = gaps.lower_bound(offset);
    if (after != gaps.end() && after->first == offset + length) {
      length += after->second;
      after = gaps.erase(after);
    }
    if (after != gaps.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == offset) {
        before->second += length;
        return true;
      }
    }
    gaps.emplace(offset, length);
    return true;
  }

  // Called at the end of every scope: what a whole period of them did not reach goes back to the system.
  void age() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (++scopes % period) {
      return;
    }
    if (reached > recent) {
      give_back(recent, reached);
      reached = recent;
    }
    recent = blocks_end();
  }

  void release() {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [offset, width] : gaps) {
      give_back(offset, std::min(offset + width, reached));
    }
    reached = recent = blocks_end();
  }

  std::pair<size_t, size_t> statistics() {
    const std::lock_guard<std::mutex> lock(mutex);
    return {in_use, reached};
  }

  std::mutex mutex;

 private:
  static constexpr size_t page_size = 4096;
  static constexpr size_t huge = size_t{2} << 20;
  // Blocks of whole pages would all begin in the same set of a cache, which has no room for a dozen streams at once.
  static constexpr size_t stagger = 9 * 64;
  static constexpr uint64_t period = 64;

  void give_back(size_t from, size_t to) {
    from = (from + page_size - 1) / page_size * page_size;
    to = to / page_size * page_size;
    if (from < to) {
      madvise(begin + from, to - from, MADV_DONTNEED);
    }
  }

  size_t blocks_end() const {
    return gaps.empty() || gaps.rbegin()->first + gaps.rbegin()->second < size ? size : gaps.rbegin()->first;
  }

  char* begin = nullptr;
  size_t size = 0;
  std::map<size_t, size_t> gaps; // lengths by offset, no two of them adjacent
  std::unordered_map<size_t, size_t> blocks; // lengths by offset
  size_t in_use = 0, reached = 0, recent = 0; // bytes; the end of what was touched, ever and in this period
  uint64_t scopes = 0;
};

Arena* arena = nullptr; // never freed: tensors may outlive everything else
c10::Allocator* usual = nullptr;
thread_local int scope_depth = 0;

void give_back_memory(void* memory) {
  if (!arena->give(memory)) {
    usual->raw_deleter()(memory);
  }
}

// What the CPU had before, except for large requests within a scope.
class ScopedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (scope_depth > 0 && bytes >= smallest) {
      if (void* memory = arena->take(bytes)) {
        return {memory, memory, &give_back_memory, c10::Device(c10::DeviceType::CPU)};
      }
    }
    return usual->allocate(bytes);
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back_memory;
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  // Smaller ones the C library keeps by itself.
  static constexpr size_t smallest = size_t{128} << 10;
};

// Put the allocator in front of the one in use. A second call does nothing; false when there are no addresses.
bool install_buffers() {
  if (arena) {
    return true;
  }
  c10::Allocator* const current = c10::GetCPUAllocator();
  if (!current->raw_deleter()) { // memory of either kind could not be told apart
    return false;
  }
  auto* made = new Arena;
  if (!made->reserve()) {
    delete made;
    return false;
  }
  arena = made;
  usual = current;
  // A child must not inherit a lock that some other thread of its parent holds.
  pthread_atfork([] { arena->mutex.lock(); }, [] { arena->mutex.unlock(); }, [] { arena->mutex.unlock(); });
  c10::SetCPUAllocator(new ScopedAllocator, 0);
  return dynamic_cast<ScopedAllocator*>(c10::GetCPUAllocator()) != nullptr;
}

} // namespace
