//! Time per packet: frames through plan and rewrite, decisions over few and many flows, a worker.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::Stepped;
use turnwire_micro::flows::{Flow, Relay, many};
use turnwire_micro::frames::Shuttle;
use wire::{LISTENER, PortUse, decide};

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let families =
        [("4-4", false, false), ("6-6", true, true), ("4-6", false, true), ("6-4", true, false)];
    for (name, client_v6, peer_v6) in families {
        let flow = Flow::new(5, client_v6, peer_v6);
        let relay = Relay::new(&[flow]);
        for (direction, from_client) in [("to the peer", true), ("to the client", false)] {
            let mut shuttle = Shuttle::new(&flow, from_client, 160);
            group.bench_function(BenchmarkId::new(name, direction), |bencher| {
                bencher.iter(|| black_box(&mut shuttle).relay(&relay));
            });
        }
    }
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for count in [1, 1_000, 64_000] {
        let (relay, datagrams) = many(count);
        let mut next = datagrams.iter().cycle();
        group.bench_function(BenchmarkId::new("hit", count), |bencher| {
            bencher.iter(|| {
                let datagram = next.next().expect("a cycle has no end");
                let forward = decide(black_box(datagram), PortUse(LISTENER), &relay);
                // what a tier does with it next: reads the route, counts
                forward.map(|forward| forward.count())
            });
        });
    }
    group.finish();
}

fn worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worker");
    group.throughput(Throughput::Elements(64));
    let mut stepped = Stepped::new(160);
    group.bench_function("64 to the peer", |bencher| bencher.iter(|| stepped.round(64, 0)));
    group.bench_function("64 to the client", |bencher| bencher.iter(|| stepped.round(0, 64)));
    let mut stepped = Stepped::indications(160);
    group.bench_function("64 Send", |bencher| bencher.iter(|| stepped.round(64, 0)));
    group.bench_function("64 as Data", |bencher| bencher.iter(|| stepped.round(0, 64)));
    group.finish();
}

fn short() -> Criterion {
    let criterion = Criterion::default().without_plots();
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = short(); targets = frames, decisions, worker }
criterion_main!(benches);
