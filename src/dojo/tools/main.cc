// dojo: the command line of OpenDojo. Exit code 0: done; 1: an error, one line on stderr; 2: the
// command line itself is wrong.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"

namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

class WrongUsage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

int report(const char* message, int exit_code) {
  std::fprintf(stderr, "dojo: error: %s\n", message);
  return exit_code;
}

// The command that the words of the command line lead to, as far as they are commands.
struct Command {
  CLI::App* app = nullptr;
  std::string words;  // "dojo machine"
};

// Throws if a word stands where a command is expected and is none.
Command find_command(CLI::App& root, int argc, char** argv) {
  Command found{.app = &root, .words = root.get_name()};
  for (int i = 1; i < argc && argv[i][0] != '-'; ++i) {
    const std::vector<CLI::App*> commands = found.app->get_subcommands({});
    if (commands.empty()) {
      break;
    }
    std::vector<std::string> names;
    CLI::App* next = nullptr;
    for (CLI::App* command : commands) {
      names.push_back(command->get_name());
      next = command->get_name() == argv[i] ? command : next;
    }
    if (next == nullptr) {
      throw WrongUsage("unknown command " + dojo::quoted(argv[i]) +
                       dojo::suggestion(argv[i], names) + "; see " + found.words + " --help");
    }
    found = {.app = next, .words = found.words + " " + argv[i]};
  }
  return found;
}

int parse_and_run(CLI::App& app, int argc, char** argv) {
  const Command command = find_command(app, argc, argv);
  app.failure_message([&](const CLI::App* /*failed*/, const CLI::Error& error) {
    return std::string("dojo: error: ") + error.what() + "; see " + command.words + " --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here too, with exit code 0.
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw dojo::ApiError(std::string("cannot write to stdout: ") + std::strerror(errno));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    CLI::App app{"OpenDojo: the Dojo training supercomputer in software", "dojo"};
    app.set_version_flag("--version", "dojo " DOJO_VERSION);
    app.require_subcommand(1);
    dojo::tools::add_graph_command(app);
    dojo::tools::add_machine_command(app);
    dojo::tools::add_mesh_command(app);
    dojo::tools::add_place_command(app);
    dojo::tools::add_plan_command(app);
    dojo::tools::add_simulate_command(app);
    return parse_and_run(app, argc, argv);
  } catch (const WrongUsage& error) {
    return report(error.what(), kWrongUsage);
  } catch (const std::exception& error) {  // an ApiError, or memory that ran out
    return report(error.what(), kFailed);
  }
}
