// Example reader of edgeseg's shared-memory ring in C++17: one line a result.
//
//   g++ -O2 -std=c++17 tools/ring_reader.cpp -o ring_reader
//   edgeseg live zoo:edge-s --source 0 --ring planner &
//   ./ring_reader planner [camera] [dead-man ms] [results]
//
// The layout is that of edgeseg/sinks/ring_layout.py; a test compares the two.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace edgeseg {

constexpr std::size_t kHeaderBytes = 4096;
constexpr int kMostCameras = 32;
const char* const kStates[] = {"ok", "late", "degraded", "black", "frozen", "stale", "lost"};

struct Header {
  char magic[8];  // "EDGESEGR"
  std::uint32_t version, slots;
  std::uint64_t slot_bytes;
  std::uint32_t cameras, classes, ignore_id, closed;
  std::int64_t started_ns;
  std::uint64_t written;
  std::uint64_t newest[kMostCameras];  // slot of a camera's last result, plus one
  char names[2048], engine[256];
};

struct SlotHeader {
  std::uint64_t sequence;  // odd while the slot is written
  std::uint64_t number;
  std::int64_t frame_id, t_capture_ns, t_result_ns;  // CLOCK_MONOTONIC
  std::uint32_t camera, state, height, width, has_mask, reserved;
  char reason[128];
};

inline std::int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

class Ring {
 public:
  explicit Ring(const std::string& path) {
    int file = open(path.c_str(), O_RDONLY);
    struct stat info{};
    if (file < 0 || fstat(file, &info) != 0) return;
    size_ = static_cast<std::size_t>(info.st_size);
    void* memory = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return;
    base_ = static_cast<const unsigned char*>(memory);
    if (size_ < kHeaderBytes || std::memcmp(header().magic, "EDGESEGR", 8) != 0 || header().version != 1) {
      munmap(memory, size_);
      base_ = nullptr;
    }
  }
  ~Ring() {
    if (base_) munmap(const_cast<unsigned char*>(base_), size_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool good() const { return base_ != nullptr; }
  const Header& header() const { return *reinterpret_cast<const Header*>(base_); }
  bool over() const { return __atomic_load_n(&header().closed, __ATOMIC_ACQUIRE) != 0; }

  // Copies the newest result of a camera. False before the first one, or when the writer was faster than eight tries.
  bool newest(int camera, SlotHeader& head, std::vector<unsigned char>& mask) const {
    for (int attempt = 0; attempt < 8; ++attempt) {
      std::uint64_t slot = __atomic_load_n(&header().newest[camera], __ATOMIC_ACQUIRE);
      if (slot == 0) return false;
      const unsigned char* at = base_ + kHeaderBytes + (slot - 1) * header().slot_bytes;
      auto* live = reinterpret_cast<const SlotHeader*>(at);
      std::uint64_t before = __atomic_load_n(&live->sequence, __ATOMIC_ACQUIRE);
      if (before % 2) continue;
      std::memcpy(&head, at, sizeof head);
      std::size_t pixels = head.has_mask ? std::size_t{head.height} * head.width : 0;
      if (pixels > header().slot_bytes - sizeof head) continue;
      mask.assign(at + sizeof head, at + sizeof head + pixels);
      __atomic_thread_fence(__ATOMIC_ACQUIRE);
      if (__atomic_load_n(&live->sequence, __ATOMIC_RELAXED) == before && head.camera == std::uint32_t(camera))
        return true;
    }
    return false;
  }

 private:
  const unsigned char* base_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace edgeseg

int main(int argc, char** argv) {
  using namespace edgeseg;
  if (argc < 2) return std::fprintf(stderr, "usage: %s NAME [camera] [dead-man ms] [results]\n", argv[0]), 2;
  std::string path = argv[1];
  if (path.find('/') == std::string::npos) path = "/dev/shm/" + path;
  int camera = argc > 2 ? std::atoi(argv[2]) : 0;
  std::int64_t dead_ns = (argc > 3 ? std::atoll(argv[3]) : 200) * 1000000LL;
  long left = argc > 4 ? std::atol(argv[4]) : -1;

  Ring ring(path);
  if (!ring.good()) return std::fprintf(stderr, "no ring of version 1 at %s\n", path.c_str()), 5;
  if (camera < 0 || camera >= static_cast<int>(ring.header().cameras)) return std::fprintf(stderr, "no such camera\n"), 2;

  SlotHeader head{};
  std::vector<unsigned char> mask;
  std::uint64_t last = ~0ULL;
  bool dead = false;
  while (left != 0 && !ring.over()) {
    if (ring.newest(camera, head, mask)) {
      std::int64_t age_ns = now_ns() - head.t_capture_ns;
      bool now_dead = head.has_mask && age_ns > dead_ns;  // the writer may be gone: do not use its last mask
      if (head.number != last || now_dead != dead) {
        last = head.number;
        dead = now_dead;
        std::size_t zeros = 0;
        for (unsigned char id : mask) zeros += id == 0;
        std::printf("frame %lld %s %ux%u %zu %.1f ms %s\n", static_cast<long long>(head.frame_id),
                    dead ? "dead" : kStates[head.state], head.height, head.width, zeros, age_ns / 1e6, head.reason);
        std::fflush(stdout);
        if (left > 0) --left;
      }
    }
    usleep(1000);
  }
  return 0;
}
