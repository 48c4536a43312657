#pragma once
// The words of options that several commands take.

#define DEVICE_CHOICES "auto|cpu|cuda|reference"
#define LAUNCHER_CHOICES "auto|mpirun|srun"
