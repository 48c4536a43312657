#pragma once
// The tools as subcommands of `retort`: argv[0] is the subcommand's name. Each returns the exit
// code.

int pack_main(int argc, char **argv);
int synth_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int verify_main(int argc, char **argv);
