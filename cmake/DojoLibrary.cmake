# dojo_library(NAME [DEPS lib...] [LINK target...] [PRIVATE_LINK target...])
#
# One folder = one library = one namespace. Sources are all *.cc beside the call, except
# *_test.cc, which become the test binary dojo_NAME_test, and X_bench.cc, each of which becomes a
# program dojo_X_bench that bench/*.py runs (target `benches`, not in `all`). DEPS lists every
# library of this project that is included, in full (the test `layering` holds the folder to
# it; it reads this very call); LINK and PRIVATE_LINK name targets from outside the project.
#
# Tests carry the label `fast`; a file *_slow_test.cc becomes a binary of its own, label `slow`.
define_property(GLOBAL PROPERTY DOJO_LIBRARIES
  BRIEF_DOCS "Targets of all libraries declared so far, in dependency order")

function(dojo_test target label)
  target_link_libraries(${target} PRIVATE GTest::gtest_main dojo_flags)
  target_compile_definitions(${target} PRIVATE DOJO_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # What is DISABLED_ has a make target of its own.
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60 TEST_FILTER "-*DISABLED_*"
    PROPERTIES LABELS ${label} TIMEOUT 900 SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()

add_custom_target(benches)

function(dojo_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;LINK;PRIVATE_LINK" ${ARGN})
  set(target dojo_${name})
  file(GLOB sources CONFIGURE_DEPENDS *.cc internal/*.cc)
  set(tests ${sources})
  set(benches ${sources})
  set(slow_tests ${sources})
  list(FILTER slow_tests INCLUDE REGEX "_slow_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER tests EXCLUDE REGEX "_slow_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cc$")
  list(TRANSFORM ARG_DEPS PREPEND dojo_ OUTPUT_VARIABLE dep_targets)

  if(sources)
    add_library(${target} STATIC ${sources})
    target_link_libraries(${target} PUBLIC dojo_flags ${dep_targets} ${ARG_LINK}
                                    PRIVATE ${ARG_PRIVATE_LINK})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE dojo_flags ${dep_targets} ${ARG_LINK})
  endif()
  set_property(GLOBAL APPEND PROPERTY DOJO_LIBRARIES ${target})

  foreach(bench ${benches})
    cmake_path(GET bench STEM stem)
    add_executable(dojo_${stem} EXCLUDE_FROM_ALL ${bench})
    target_link_libraries(dojo_${stem} PRIVATE ${target} ${ARG_PRIVATE_LINK})
    add_dependencies(benches dojo_${stem})
  endforeach()

  if(DOJO_BUILD_TESTS)
    if(tests)
      add_executable(${target}_test ${tests})
      target_link_libraries(${target}_test PRIVATE ${target} ${ARG_PRIVATE_LINK})
      dojo_test(${target}_test fast)
    endif()
    if(slow_tests)
      add_executable(${target}_slow_test ${slow_tests})
      target_link_libraries(${target}_slow_test PRIVATE ${target} ${ARG_PRIVATE_LINK})
      dojo_test(${target}_slow_test slow)
    endif()
  endif()
endfunction()
