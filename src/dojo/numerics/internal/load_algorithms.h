// The load of a storage format, chosen at run time among the classes of decode_avx512.h and
// decode_avx2.h. This text is included twice, in the namespaces avx512 and avx2.
// NOLINT(llvm-header-guard): included more than once on purpose.

using AnyLoad = std::variant<LoadF32, LoadBf16, LoadCFloat, LoadU8, LoadHalf>;

inline AnyLoad load_of(const StorageFormat& type) {
  switch (type.format) {
    case Format::F32:
      return LoadF32(type);
    case Format::Bf16:
      return LoadBf16(type);
    case Format::U8:
      return LoadU8(type);
    case Format::F16:
    case Format::Shp:
    case Format::Uhp:
      return LoadHalf(type);
    default:
      DOJO_CHECK(is_float(type.format) && bytes_of(type.format) == 1);
      return LoadCFloat(type);
  }
}

// body(load) with the load's own type.
template <class Body>
void with_load(const AnyLoad& load, const Body& body) {
  switch (load.index()) {
    case 0:
      return body(*std::get_if<0>(&load));
    case 1:
      return body(*std::get_if<1>(&load));
    case 2:
      return body(*std::get_if<2>(&load));
    case 3:
      return body(*std::get_if<3>(&load));
    default:
      return body(*std::get_if<4>(&load));
  }
}
