//! `turnwire-load sink`: the peer's side on another host.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::SinkArgs;
use crate::progress::Progress;
use crate::sink::{Sink, SinkOptions};
use crate::sys::on_interrupt;

pub(super) fn sink(args: &SinkArgs) -> Result<ExitCode> {
    on_interrupt();
    let rate_max = args.rate_max.0.unwrap_or(f64::MAX);
    let options = SinkOptions { listen: args.listen, ports: args.ports, rate_max };
    let mut sink = Sink::open(options)?;
    for address in sink.addresses()? {
        println!("listening at {address}");
    }
    sink.serve(&mut Progress::new(args.quiet))?;
    Ok(ExitCode::SUCCESS)
}
