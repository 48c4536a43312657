#pragma once
// The launcher's own subcommands: argv[0] is the subcommand's name. Each returns the exit code.

int run_main(int argc, char **argv);
int submit_main(int argc, char **argv);
int eval_main(int argc, char **argv);
int predict_main(int argc, char **argv);
int export_main(int argc, char **argv);
int import_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int status_main(int argc, char **argv);
int report_main(int argc, char **argv);
int stop_main(int argc, char **argv);
int devices_main(int argc, char **argv);
