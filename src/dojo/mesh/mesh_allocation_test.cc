// No cycle allocates, whatever the load.
#include <gtest/gtest.h>

#include "dojo/base/counted_allocations.h"
#include "dojo/mesh/mesh.h"

namespace dojo::mesh {
namespace {

TEST(Mesh, NoCycleAllocates) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer has its own operator new";
#endif
  for (const double rate : {0.05, 0.9}) {
    const Traffic traffic =
        *Traffic::synthetic({.rows = 9, .columns = 9, .rate = rate, .packet_flits = 2});
    Mesh mesh = *Mesh::make({9, 9, *router_preset("booksim-v4")}, traffic);
    counted::begin();
    mesh.run_until(2000);
    EXPECT_EQ(counted::end(), 0);
  }
}

}  // namespace
}  // namespace dojo::mesh
