//! The program `turnwire`.

use std::process::ExitCode;

use clap::Parser;
use turnwire::cli::{Cli, Command};
use turnwire::host::Host;
use turnwire::{clock, commands, probe, serve, top};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::CheckConfig { file } => Host::look().map_err(Into::into).and_then(|host| {
            print!("{}", commands::check_config(&file, &host)?);
            Ok(())
        }),
        Command::Credentials(args) => Host::look().map_err(Into::into).and_then(|host| {
            let variable = |name: &str| std::env::var(name).ok();
            print!("{}", commands::credentials(&args, &variable, clock::unix(), &host)?);
            Ok(())
        }),
        Command::Probe(args) => probe::run(&args, clock::unix()),
        Command::Top(args) => top::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                eprintln!("turnwire: {line}");
            }
            ExitCode::FAILURE
        }
    }
}
