# cmake -DOUTPUT=shipped_files.cc -DFILES=a.toml;b.toml -P embed_machines.cmake
# Writes the machine files as string literals, so that the program needs no files at run time.
list(SORT FILES)
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${hex}")
  # 64 bytes to a literal: adjacent ones join, and no line is too long for a compiler.
  string(LENGTH "${bytes}" length)
  set(literals "")
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${bytes}" ${at} 256 part)
    string(APPEND literals "\n     \"${part}\"")
    math(EXPR at "${at} + 256")
  endwhile()
  string(APPEND rows "    {\"${name}\",${literals}},\n")
endforeach()
file(WRITE "${OUTPUT}" "// Generated from machines/*.toml by embed_machines.cmake; do not edit.
#include \"dojo/machine/internal/shipped_files.h\"

namespace dojo::machine::internal {
namespace {

constexpr ShippedFile kFiles[] = {
${rows}};

}  // namespace

std::span<const ShippedFile> shipped_files() { return kFiles; }

}  // namespace dojo::machine::internal
")
