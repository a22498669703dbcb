//! The scenario's figures as a table with ratios, and for the record.

use serde_json::{Value, json};

use super::server::Kind;
use super::{EQUAL_RATE, Figures, Scenario, Subject};
use crate::summary::Samples;

impl Scenario {
    fn of(&self, subject: Subject) -> Option<&Figures> {
        self.figures.iter().find(|(one, _)| *one == subject).map(|(_, figures)| figures)
    }

    /// Markdown: a table of rates and one of ratios.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}: {}\n\n", self.topology.name(), self.mix.describe());
        text += "| subject | most delivered, one core for all | most delivered, own core | CPU of that, ns a \
                 packet | at most 0.1 % lost | none lost | CPU s of the process, a million \
                 packets |\n|---|---|---|---|---|---|---|\n";
        for (subject, figures) in &self.figures {
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                subject.name(self.topology),
                thousands(&figures.one_core),
                thousands(&figures.own_core),
                plain(&figures.own_core_ns, 0),
                bound(figures, &figures.most),
                thousands(&figures.lossless),
                plain(&figures.process_cpu, 2),
            );
        }
        text += &format!(
            "\nThousands of packets a second that arrived whole, median (lowest to highest) of the \
             rounds; CPU time at {EQUAL_RATE:.0} packets a second.\n\n"
        );
        text + &self.ratios()
    }

    fn ratios(&self) -> String {
        let mut text =
            String::from("| ratio, within a round | measured | wanted |\n|---|---|---|\n");
        let xdp = Subject::Relay(Kind::Xdp);
        for (name, a, b, pick, least) in self.pairs(xdp) {
            let (Some(a), Some(b)) = (self.of(a), self.of(b)) else { continue };
            let ratio = pick(a).over(pick(b));
            if ratio.is_empty() {
                continue;
            }
            let wanted = least.map_or(String::new(), |least| {
                let verdict = if ratio.median() >= least { "met" } else { "missed" };
                format!("at least {least}: {verdict}")
            });
            text += &format!("| {name} | {} | {wanted} |\n", ratio.show(2));
        }
        text
    }

    #[allow(clippy::type_complexity, reason = "a table of ratios, one line each")]
    fn pairs(
        &self,
        xdp: Subject,
    ) -> Vec<(String, Subject, Subject, fn(&Figures) -> &Samples, Option<f64>)> {
        let bare = Subject::Bare.name(self.topology);
        let (sockets, coturn) = (Subject::Relay(Kind::Sockets), Subject::Relay(Kind::Coturn));
        let most: fn(&Figures) -> &Samples = |figures| &figures.most;
        vec![
            (
                format!("Turnwire, XDP : {bare}, most delivered, one core for all"),
                xdp,
                Subject::Bare,
                |figures| &figures.one_core,
                Some(0.9),
            ),
            (
                format!("Turnwire, XDP : {bare}, most delivered, own core"),
                xdp,
                Subject::Bare,
                |figures| &figures.own_core,
                Some(0.9),
            ),
            (format!("Turnwire, XDP : {bare}, at 0.1 %"), xdp, Subject::Bare, most, None),
            (
                "Turnwire, XDP : coturn, most delivered, own core".into(),
                xdp,
                coturn,
                |figures| &figures.own_core,
                None,
            ),
            // throughput is what is carried with at most 0.1 % lost: the target is for that
            ("Turnwire, XDP : coturn, at 0.1 %".into(), xdp, coturn, most, Some(10.0)),
            ("Turnwire, sockets : coturn, at 0.1 %".into(), sockets, coturn, most, None),
        ]
    }

    /// For the record.
    pub(crate) fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|(subject, figures)| {
                json!({
                    "subject": subject.name(self.topology),
                    "command": figures.command,
                    "saturated_one_core_pps": figures.one_core.json(),
                    "saturated_own_core_pps": figures.own_core.json(),
                    "saturated_own_core_cpu_ns": figures.own_core_ns.json(),
                    "loss_at_most_0.1_percent_pps": figures.most.json(),
                    "lossless_pps": figures.lossless.json(),
                    "process_cpu_s_per_million": figures.process_cpu.json(),
                    "trials": figures.trials,
                    "void_trials": figures.voids,
                    "generator_limited": figures.generator_limited,
                })
            })
            .collect();
        json!({
            "topology": self.topology.name(),
            "mix": self.mix.describe(),
            "cpu_compared_at_pps": EQUAL_RATE,
            "subjects": figures,
        })
    }
}

fn thousands(samples: &Samples) -> String {
    plain(&samples.scaled(1e-3), 0)
}

/// A figure that the generator may have limited.
fn bound(figures: &Figures, samples: &Samples) -> String {
    let mark = if figures.generator_limited { "≥ " } else { "" };
    format!("{mark}{}", thousands(samples))
}

fn plain(samples: &Samples, digits: usize) -> String {
    if samples.is_empty() { "–".into() } else { samples.show(digits) }
}
