#include "dojo/mesh/booksim_rows.h"

namespace dojo::mesh {
namespace {

class Booksim : public ::testing::TestWithParam<int> {};

TEST_P(Booksim, MeansOfEightSeedsAreTheRows) {
  const std::vector<BooksimRow> rows = booksim_rows();
  ASSERT_EQ(rows.size(), 110u);
  for (std::size_t i = static_cast<std::size_t>(GetParam()); i < rows.size(); i += 4) {
    expect_row(rows[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Quarters, Booksim, ::testing::Range(0, 4));

}  // namespace
}  // namespace dojo::mesh
