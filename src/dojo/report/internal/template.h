// The page's template and the charting library, made part of the program at build time from
// template/ (embed_template.cmake).
#pragma once

#include <string_view>

namespace dojo::report {

extern const std::string_view kTemplate;  // template/report.html; marks {{CHART_JS}} and {{DATA}}
extern const std::string_view kChartJs;   // template/chart.min.js

}  // namespace dojo::report
