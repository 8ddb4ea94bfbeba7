//! The binary: all it does is to hand the command line to `mesh::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::cli::main()
}
