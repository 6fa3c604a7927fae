#include <gtest/gtest.h>

#include "dojo/mesh/random_meshes.h"

namespace dojo::mesh {
namespace {

TEST(Mesh, EqualsThePlainTwinOnManyRandomMachines) { expect_equal_to_plain_twin(1, 600); }

}  // namespace
}  // namespace dojo::mesh
