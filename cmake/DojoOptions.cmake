# Compiler settings shared by every target.
option(DOJO_BUILD_TESTS "Build the tests" ON)
option(DOJO_BUILD_PYTHON "Build the Python extension opendojo._core" OFF)
option(DOJO_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(DOJO_CUDA "Encode, decode and products on a GPU (numerics/cuda); needs nvcc" OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_CXX_VISIBILITY_PRESET hidden)

find_program(DOJO_CCACHE ccache)
if(DOJO_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${DOJO_CCACHE}")
endif()

add_library(dojo_flags INTERFACE)
target_include_directories(dojo_flags INTERFACE "${PROJECT_SOURCE_DIR}/src")
# Values are part of the contract: no contraction, no reassociation, unless a kernel says fma.
target_compile_options(dojo_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Werror;-ffp-contract=off;-fno-math-errno;-fno-trapping-math>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false>")
if(DOJO_SANITIZE)
  target_compile_options(dojo_flags INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    # Instrumented, g++ 12 sees uninitialised values in its own <regex>, and a mismatch where a test
    # counts allocations with operators of its own.
    -Wno-maybe-uninitialized -Wno-mismatched-new-delete)
  target_link_options(dojo_flags INTERFACE -fsanitize=address,undefined)
endif()
