//! `turnwire-load churn`: allocations that come and go.

use std::process::ExitCode;

use anyhow::Result;

use super::{begin, write};
use crate::churn::{Churn, Plan};
use crate::cli::ChurnArgs;
use crate::progress::Progress;
use crate::sys::wall_clock;

pub(super) fn churn(args: &ChurnArgs) -> Result<ExitCode> {
    let options = args.options(wall_clock())?;
    let mut report = begin("churn", &options, "none", &args.output);
    report.settings.allocations = usize::from(args.server.in_flight);
    report.settings.channels_per_allocation = args.channels_per_allocation;
    let plan = Plan {
        rate: args.rate.0,
        duration: args.duration,
        channels: args.channels_per_allocation,
        refreshes: usize::from(args.refreshes),
    };
    let mut progress = Progress::new(args.output.quiet);
    match Churn::new(options, plan).and_then(|churn| churn.run(&mut progress)) {
        Err(error) => report.fail(format!("{error:#}"), None),
        Ok(done) => {
            if done.interrupted {
                report.interrupt();
            }
            if let Some((error, times)) = &done.failure {
                let more = match times {
                    1 => String::new(),
                    times => format!(" ({times} requests failed)"),
                };
                report.fail(format!("{error}{more}"), error.code());
            }
            report.churn = Some(done.result);
        }
    }
    progress.clear();
    write(&report, &args.output)
}
