#include "dojo/graph/graph.h"

#include <algorithm>
#include <set>

#include "dojo/graph/test_graphs.h"

namespace dojo::graph {
namespace {

TEST(Roles, NamesFollowTheEnum) {
  for (std::size_t i = 0; i < roles().size(); ++i) {
    EXPECT_EQ(static_cast<std::size_t>(roles()[i].role), i);
    EXPECT_EQ(role_named(roles()[i].name), roles()[i].role);
  }
  EXPECT_EQ(roles().back().role, Role::SecondMoment);
  EXPECT_FALSE(role_named("nothing").has_value());
}

constexpr const char* kSmall =
    "%x = input f32[2,3] \"x\"\n%a = aten.relu(%x) : f32[2,3] @\"m\" fwd\n"
    "%b = aten.relu(%a) : f32[2,3] @\"m\" fwd\n%c = aten.mul(%a, %a) : f32[2,3] @\"m\" fwd";

TEST(Uses, NameTheDefinitionAndEachReaderOnce) {
  const Uses uses = uses_of(parsed_body(kSmall));
  EXPECT_FALSE(uses.definition[0].has_value());
  EXPECT_EQ(uses.definition[1], OpId{0});
  EXPECT_EQ(uses.readers[1], (std::vector<OpId>{OpId{1}, OpId{2}}));
  EXPECT_TRUE(uses.readers[3].empty());
}

TEST(StoredBytes, AreElementsTimesTheFormatsBytes) {
  Value value;
  value.shape = {3, 5};
  EXPECT_EQ(stored_bytes(value).count(), 60);
  value.format = Format::Cf8_1_5_2;
  EXPECT_EQ(stored_bytes(value).count(), 15);
  value.shape = {};
  EXPECT_EQ(stored_bytes(value).count(), 1);
}

TEST(TensorIds, DifferAndDependOnPlaceAloneNotOnNamesOrOrderOfOthers) {
  const Graph graph = parsed_body(kSmall);
  const std::vector<std::uint32_t> ids = *tensor_ids(graph);
  EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), ids.size());

  Graph renamed = graph;
  renamed.values[2].name = "other";
  EXPECT_EQ(*tensor_ids(renamed), ids);

  // An op of another module in between moves nothing.
  const Graph longer = parsed_body(
      "%x = input f32[2,3] \"x\"\n%a = aten.relu(%x) : f32[2,3] @\"m\" fwd\n"
      "%n = aten.relu(%a) : f32[2,3] @\"new\" fwd\n"
      "%b = aten.relu(%a) : f32[2,3] @\"m\" fwd\n%c = aten.mul(%a, %a) : f32[2,3] @\"m\" fwd");
  const std::vector<std::uint32_t> more = *tensor_ids(longer);
  EXPECT_EQ(more[0], ids[0]);
  EXPECT_EQ(more[1], ids[1]);
  EXPECT_EQ(more[3], ids[2]);
  EXPECT_EQ(more[4], ids[3]);
}

TEST(TensorIds, AreTheFirstBitsOfTheSha256OfWhatTheyStandFor) {
  const std::vector<std::uint32_t> ids = *tensor_ids(parsed_body(kSmall));
  const auto expected = [](std::string_view key) {
    return static_cast<std::uint32_t>(std::stoul(sha256_hex(key).substr(0, 8), nullptr, 16));
  };
  EXPECT_EQ(ids[0], expected("input\x1fx"));
  EXPECT_EQ(ids[3], expected("op\x1fm\x1f\x30\x1fnone\x1f\x32"));
}

TEST(TensorIds, OfTwoLeavesWithOneLabelAreAnErrorThatNamesBoth) {
  Graph graph = parsed_body("%x = input f32[2] \"x\"\n%y = input f32[2] \"y\"");
  graph.values[1].label = "x";
  const Result<std::vector<std::uint32_t>> ids = tensor_ids(graph);
  ASSERT_FALSE(ids.has_value());
  EXPECT_NE(ids.error().message.find("%x and %y"), std::string::npos);
}

// Labels whose SHA-256 begins with the same 32 bits, found by search.
TEST(TensorIds, ThatMeetAreAnErrorWhereBiasOrRandomBitsHangOnThem) {
  Graph graph = parsed(
      "graph \"t\" recipe \"r\" machine \"m\" {bias_window=16} {\n"
      "%x = weight cf8_1_4_3[2] \"x\"\n%y = weight cf8_1_4_3[2] \"y\"\n}\n");
  const auto [first, second] = std::pair("w2918", "w74811");
  graph.values[0].label = first;
  graph.values[1].label = second;
  const Result<std::vector<std::uint32_t>> ids = tensor_ids(graph);
  ASSERT_FALSE(ids.has_value());
  EXPECT_NE(ids.error().message.find("%x and %y have the same tensor id"), std::string::npos);
  graph.values[1].format = Format::F32;
  EXPECT_TRUE(tensor_ids(graph).has_value());
}

TEST(GraphSha256, IsThatOfTheCanonicalText) {
  const Graph graph = parsed_body(kSmall);
  EXPECT_EQ(graph_sha256(graph), sha256_hex(print_graph(graph)));
  Graph other = graph;
  other.ops[0].module = "n";
  EXPECT_NE(graph_sha256(graph), graph_sha256(other));
}

// --- the op table ---
TEST(OpTable, RowsAreSortedUniqueAndWhole) {
  const std::vector<OpInfo>& rows = all_ops();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_TRUE(i == 0 || rows[i - 1].name < rows[i].name) << rows[i].name;
    EXPECT_EQ(find_op(rows[i].name), &rows[i]);
    EXPECT_NE(rows[i].infer, nullptr) << rows[i].name;
    EXPECT_NE(rows[i].nest, nullptr) << rows[i].name;
    EXPECT_FALSE(rows[i].doc.empty()) << rows[i].name;
    EXPECT_EQ(rows[i].doc.find('|'), std::string_view::npos) << "breaks the table: " << rows[i].doc;
    for (std::size_t a = 1; a < rows[i].attributes.size(); ++a) {
      EXPECT_LT(rows[i].attributes[a - 1].name, rows[i].attributes[a].name) << rows[i].name;
    }
  }
  EXPECT_EQ(find_op("aten.no"), nullptr);
}

TEST(OpTable, IsWhatItsDocumentationSays) {
  const bool is_up_to_date =
      *read_file(std::string(DOJO_SOURCE_DIR) + "/docs/ops.md") == ops_markdown();
  EXPECT_TRUE(is_up_to_date) << "run: dojo graph ops --markdown > docs/ops.md";
}

TEST(OpTable, HasAnExampleOfEachRow) {
  const Graph graph = parsed(every_op_text());
  std::set<std::string_view> seen;
  for (const Op& op : graph.ops) {
    seen.insert(op.info->name);
  }
  for (const OpInfo& row : all_ops()) {
    EXPECT_TRUE(seen.contains(row.name)) << row.name << ": add it to every_op.graph";
  }
}

TEST(Attributes, ReadTheDefaultWhenNotGiven) {
  const Graph graph = parsed_body(
      "%x = input f32[1,2,9,9] \"x\"\n%w = weight f32[4,2,3,3] \"w\"\n"
      "%y = aten.convolution(%x, %w) {stride=[2,2], padding=1} : f32[1,4,5,5] @\"\" fwd\n"
      "%z = aten.sum(%y) {dim=1} : f32[1,5,5] @\"\" fwd");
  const Op& conv = graph.ops[0];
  EXPECT_EQ(ints_attr(conv, "stride", 2), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(ints_attr(conv, "padding", 2), (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(ints_attr(conv, "dilation", 2), (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(int_attr(conv, "groups"), 1);
  EXPECT_FALSE(bool_attr(conv, "transposed"));
  EXPECT_EQ(optional_ints_attr(graph.ops[1], "dim"), (std::vector<std::int64_t>{1}));
  EXPECT_FALSE(has_attribute(graph.ops[1], "dtype"));
  EXPECT_FALSE(bool_attr(graph.ops[1], "keepdim"));
}

}  // namespace
}  // namespace dojo::graph
