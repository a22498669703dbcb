//! The report, from nothing but the results: as Markdown, and as a page with plots.

mod blocks;
mod delays;
mod figures;
mod headline;
mod tables;

use blocks::{Block, heading, table, text};

use crate::suite::record::Results;

/// What a report consists of, in its order.
fn blocks(results: &Results) -> Vec<Block> {
    let mut blocks = vec![text(headline::introduction(results))];
    blocks.extend(headline::notes(results));
    blocks.push(heading("Ratios, within a round"));
    blocks.push(table(headline::ratios(results)));
    blocks.push(text(headline::legend()));
    blocks.extend(figures::overview(results));
    for scenario in &results.scenarios {
        blocks.push(heading(format!("{}: {}", scenario.name, scenario.title)));
        blocks.extend(delays::table(results, scenario).map(table));
        if scenario.entries.iter().flat_map(|entry| &entry.rounds).all(|one| one.delays.is_empty())
        {
            blocks.push(table(tables::throughput(results, scenario)));
        }
        blocks.extend(tables::latency(results, scenario).map(table));
        blocks.extend(figures::of_scenario(results, scenario));
    }
    if let Some(cost) = &results.cost {
        blocks.push(heading("The program's own cost"));
        blocks.push(table(tables::cost(cost)));
    }
    if !results.rings.is_empty() {
        blocks.push(heading("AF_XDP rings beside those of the crate xdp, on the same job"));
        let head = "frames reflected in copy mode, both in each round, the first dropped: medians";
        let lines = std::iter::once(head).chain(results.rings.iter().map(String::as_str));
        blocks.push(table(lines.map(|line| vec![line.to_owned()]).collect()));
    }
    blocks.push(heading("Subjects"));
    blocks.push(table(tables::subjects(results)));
    blocks.push(heading("Machine"));
    blocks.push(table(tables::machine(&results.machine)));
    blocks
}

/// As Markdown; plots are left to the page.
pub(crate) fn markdown(results: &Results) -> String {
    blocks(results).iter().map(Block::markdown).collect()
}

/// As one HTML page that needs nothing else.
pub(crate) fn page(results: &Results) -> String {
    use turnwire_load::html::{STYLE, escape};
    let title = format!("TURN relays compared, {}", results.started);
    let body: String = blocks(results).iter().map(Block::html).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}\n\
         body{{max-width:75rem}}th,td{{white-space:normal}}</style></head>\n\
         <body><h1>{0}</h1>\n{body}</body></html>\n",
        escape(&title)
    )
}

/// What stands for the whole in the first document that anybody reads.
pub(crate) fn chosen(results: &Results) -> String {
    let mut blocks = vec![text(headline::source(results))];
    blocks.extend(headline::notes(results).into_iter().filter(|_| results.interrupted).take(1));
    blocks.extend([table(headline::chosen(results)), text(headline::legend())]);
    blocks.iter().map(Block::markdown).collect()
}

/// The few lines that stand for the whole.
pub(crate) fn headline(results: &Results) -> String {
    let blocks = [table(headline::ratios(results)), text(headline::legend())];
    blocks.iter().map(Block::markdown).collect()
}

#[cfg(test)]
mod tests;
