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
    let done = Churn::new(options, plan)?.run(&mut progress)?;
    progress.clear();
    if done.interrupted {
        report.interrupt();
    }
    if let Some((error, times)) = &done.failure {
        let more = if *times > 1 { format!(" ({times} requests failed)") } else { String::new() };
        report.fail(format!("{error}{more}"), error.code());
    }
    report.churn = Some(done.result);
    write(&report, &args.output)
}
