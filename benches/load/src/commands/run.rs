//! `turnwire-load run`: one rate for some time.

use std::process::ExitCode;

use anyhow::Result;

use super::{begin, write};
use crate::cli::RunArgs;
use crate::lab::{Lab, Load};
use crate::progress::Progress;
use crate::report::Report;
use crate::sys::wall_clock;

pub(super) fn run(args: &RunArgs) -> Result<ExitCode> {
    let options = args.load.options(&args.server, wall_clock())?;
    let mut report = begin("run", &options, args.load.direction.name(), &args.output);
    let mut progress = Progress::new(args.output.quiet);
    let established = Lab::establish(options, &mut progress);
    match established.lab {
        Err(error) => report.note_setup(established.setup, &error),
        Ok(lab) => {
            report.setup = Some(established.setup);
            if let Err(error) = measure(lab, args, &mut report, &mut progress) {
                report.fail(format!("{error:#}"), None);
            }
        }
    }
    write(&report, &args.output)
}

fn measure(
    mut lab: Lab,
    args: &RunArgs,
    report: &mut Report,
    progress: &mut Progress,
) -> Result<()> {
    let load = Load { rate: args.rate.0, duration: args.duration };
    let measured = lab.measure(load, progress);
    let (_, close) = lab.close();
    let measured = measured?;
    report.run = Some(measured.result);
    if measured.interrupted {
        report.interrupt();
    }
    if let Some(error) = measured.failure {
        report.fail_control(&error);
    } else if let Some(error) = close {
        progress.line(&format!("turnwire-load: at the end: {error}"));
    }
    Ok(())
}
