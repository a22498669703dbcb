//! The program `turnwire-load`.

use std::process::ExitCode;

use clap::Parser as _;
use turnwire_load::cli::Cli;
use turnwire_load::commands;

fn main() -> ExitCode {
    commands::main(&Cli::parse())
}
