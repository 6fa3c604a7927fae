#include <gtest/gtest.h>

#include "dojo/mesh/random_meshes.h"

namespace dojo::mesh {
namespace {

TEST(Mesh, EqualsThePlainTwinOnManyRandomRectangles) { compare_random_rectangles(1, 300); }

TEST(Mesh, EqualsThePlainTwinOnManyRandomNetworks) {
  EXPECT_GT(compare_random_networks(1, 600), 200);
}

}  // namespace
}  // namespace dojo::mesh
