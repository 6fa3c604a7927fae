// How the value of each type of fact is written and read: ValueText<T>::parse, print, expected.
// print gives what parse reads back. A value is a number with its unit ("2 GHz"), a plain number,
// a shape ("18x20"), sites ("2,3 4,15"), sides ("west east") or one of a few words ("on").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/base/units.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine::internal {

using Volts = Quantity<struct VoltsTag, double>;
using Amperes = Quantity<struct AmperesTag, double>;
using Picojoules = Quantity<struct PicojoulesTag, double>;  // per event
using PicojoulesPerByte = Rate<struct PicojoulesTag, Bytes>;

struct MatrixShape {
  int m = 0;
  int n = 0;
  int k = 0;
  friend bool operator==(MatrixShape, MatrixShape) = default;
};

enum class Switch : std::uint8_t { Off, On };

// Every specialisation has
//   static constexpr bool kIsNumber        an order exists, so a range can be swept
//   static constexpr bool kTakesBareNumber written without quotes and unit in a file
//   static std::string expected()          "a frequency such as \"2 GHz\" (Hz, kHz, MHz, GHz)"
//   static Result<T> parse(text)           the error message is "expected ..." alone
//   static std::string print(T)
//   static bool is_within(T value, T low, T high)
template <class T>
struct ValueText;

#define DOJO_DECLARE_VALUE_TEXT(Type, is_number, takes_bare_number)              \
  template <>                                                                    \
  struct ValueText<Type> {                                                       \
    static constexpr bool kIsNumber = is_number;                                 \
    static constexpr bool kTakesBareNumber = takes_bare_number;                  \
    static std::string expected();                                               \
    static Result<Type> parse(std::string_view text);                            \
    static std::string print(const Type& value);                                 \
    static bool is_within(const Type& value, const Type& low, const Type& high); \
  }

DOJO_DECLARE_VALUE_TEXT(Clock, true, false);
DOJO_DECLARE_VALUE_TEXT(Bytes, true, false);
DOJO_DECLARE_VALUE_TEXT(BytesPerCycle, true, false);
DOJO_DECLARE_VALUE_TEXT(BytesPerSecond, true, false);
DOJO_DECLARE_VALUE_TEXT(Cycles, true, false);
DOJO_DECLARE_VALUE_TEXT(Picoseconds, true, false);
DOJO_DECLARE_VALUE_TEXT(Watts, true, false);
DOJO_DECLARE_VALUE_TEXT(Volts, true, false);
DOJO_DECLARE_VALUE_TEXT(Amperes, true, false);
DOJO_DECLARE_VALUE_TEXT(Picojoules, true, false);
DOJO_DECLARE_VALUE_TEXT(PicojoulesPerByte, true, false);
DOJO_DECLARE_VALUE_TEXT(double, true, true);
DOJO_DECLARE_VALUE_TEXT(int, true, true);
DOJO_DECLARE_VALUE_TEXT(Shape, false, false);
DOJO_DECLARE_VALUE_TEXT(MatrixShape, false, false);
DOJO_DECLARE_VALUE_TEXT(std::vector<Site>, false, false);
DOJO_DECLARE_VALUE_TEXT(std::vector<Side>, false, false);
DOJO_DECLARE_VALUE_TEXT(RouterAllocator, false, false);
DOJO_DECLARE_VALUE_TEXT(Switch, false, false);

#undef DOJO_DECLARE_VALUE_TEXT

// The unit that a printed value ends in: "cycles" of "16 cycles", "" of "0.9" and of "18x20".
std::string_view unit_of(std::string_view printed);

}  // namespace dojo::machine::internal
