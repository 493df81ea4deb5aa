//! What it costs that a builder is a file: to load it, an event of it, and a build that does nothing; linked in, in this
//! process, and in a worker.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use imagespec_benches::{plugin, program};
use imagespec_core::builder::{BuildRequest, Builder, CachePolicy, NetworkPolicy, Output, Session};
use imagespec_core::event::Event;
use imagespec_core::hash::{SpecHash, SpecId};
use imagespec_core::plan::Plan;
use imagespec_core::spec::Spec;
use imagespec_hostile::Hostile;
use imagespec_plugin_host::{Descriptor, Loaded, Mode, PluginFile};

const EVENTS: u64 = 10_000;

struct Nobody;

impl Session for Nobody {
    fn event(&self, event: Event) {
        black_box(event);
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn request(events: u64) -> BuildRequest {
    let plan = Plan::from_json(
        r#"{"version":1,"platforms":["linux/amd64"],"base":{"kind":"scratch"},"steps":[],"config":{"workdir":"/root"}}"#,
    )
    .expect("it is a plan");
    BuildRequest {
        id: SpecId::of(&Spec::default()),
        spec_hash: SpecHash::of(&plan),
        plan,
        name: "bench:latest".parse().expect("it is a reference"),
        outputs: vec![Output::Store],
        files: BTreeMap::new(),
        base_paths: BTreeMap::new(),
        options: BTreeMap::from([("events".to_owned(), events.into())]),
        secrets: BTreeMap::new(),
        cache: CachePolicy::Use,
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        network: NetworkPolicy::Offline,
        cache_dir: "/nowhere".into(),
        timestamp: 0,
        registries: BTreeMap::new(),
        ssh_agent: None,
        credential_files: Vec::new(),
    }
}

fn load(criterion: &mut Criterion) {
    let (path, program) = (plugin(), program());
    let read = |path: &Path| PluginFile::read(path).expect("the plugin is trusted");
    let mut group = criterion.benchmark_group("plugin/load");
    group.sample_size(20);
    group.bench_function("verify", |bencher| bencher.iter(|| Descriptor::read(&read(&path))));
    for (name, mode) in [("in-process", Mode::InProcess), ("worker", Mode::Worker)] {
        let load = || Loaded::load(&read(&path), mode, &program).expect("the plugin loads");
        // Few, for a plugin in this process is never unloaded. And its end is not part of it: nobody waits for a worker
        // that hangs up.
        group.warm_up_time(Duration::from_millis(10)).measurement_time(Duration::from_millis(100));
        group.bench_function(name, |bencher| bencher.iter_batched(|| (), |()| load(), BatchSize::PerIteration));
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let (file, program) = (PluginFile::read(&plugin()).expect("the plugin is trusted"), program());
    let loaded = |mode| Box::new(Loaded::load(&file, mode, &program).expect("the plugin loads"));
    let builders: [(&str, Box<dyn Builder>); 3] =
        [("bundled", Box::new(Hostile)), ("in-process", loaded(Mode::InProcess)), ("worker", loaded(Mode::Worker))];
    for (group, events) in [("plugin/build", 0), ("plugin/events", EVENTS)] {
        let mut group = criterion.benchmark_group(group);
        if events > 0 {
            group.throughput(Throughput::Elements(events));
        }
        let request = request(events);
        for (name, builder) in &builders {
            group.bench_function(*name, |bencher| bencher.iter(|| builder.build(&request, &Nobody)));
        }
        group.finish();
    }
}

criterion_group!(benches, load, build);
criterion_main!(benches);
