//! Time per message: parsed, checked, answered; and timers.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use turn::integrity::Hash;
use turn::message::Message;
use turnwire_micro::messages::{Desk, signed_refresh};
use turnwire_micro::timers::Deadlines;

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stun");
    for (name, hash) in [("SHA-1", Hash::Sha1), ("SHA-256", Hash::Sha256)] {
        let (bytes, key) = signed_refresh(hash);
        group.bench_function(format!("parse a Refresh signed with {name}"), |bencher| {
            bencher.iter(|| Message::parse(black_box(&bytes)).is_ok());
        });
        let message = Message::parse(&bytes).expect("a good message");
        group.bench_function(format!("check {name} of {} bytes", bytes.len()), |bencher| {
            bencher.iter(|| key.verify(black_box(&message)));
        });
    }
    group.finish();
}

fn server(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server");
    let mut desk = Desk::allocated();
    let messages = [
        ("Binding", desk.binding()),
        ("Refresh", desk.refresh()),
        ("ChannelBind", desk.channel_bind()),
        ("Send indication", desk.send()),
    ];
    for (name, bytes) in messages {
        group.bench_function(name, |bencher| bencher.iter(|| desk.handle(black_box(&bytes))));
    }
    let mut desk = Desk::new();
    let (allocate, delete) = (desk.allocate(), desk.delete());
    group.bench_function("Allocate, and Refresh to 0", |bencher| {
        bencher.iter(|| desk.handle(black_box(&allocate)) + desk.handle(black_box(&delete)));
    });
    group.finish();
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    let mut deadlines = Deadlines::new(100_000);
    group.bench_function("one moved among 100,000", |bencher| {
        bencher.iter(|| deadlines.refresh());
    });
    group.bench_function("one expired and set among 100,000", |bencher| {
        bencher.iter(|| deadlines.expire());
    });
    group.finish();
}

fn short() -> Criterion {
    let criterion = Criterion::default().without_plots();
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = short(); targets = messages, server, timers }
criterion_main!(benches);
