//! A day of a fleet, event by event, under one way to choose endpoints.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroUsize;

use imagespec_builder_remote::fleet::{Candidate, Load, Member, QUEUED_PER_SLOT_MAX, Standing, choose, rank};
use imagespec_core::digest::Digest;

use crate::endpoint::{Endpoint, IN_FLIGHT, Work};
use crate::workload::Build;

/// How endpoints are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// One after the other.
    RoundRobin,
    /// Who has least to do.
    LeastLoaded,
    /// The best by rendezvous hashing, however long its queue.
    Rendezvous,
    /// As the builder does it, with queues of so many builds for each that an endpoint does at once.
    Bounded {
        /// The queue from which on the next one is better.
        queued_per_slot_max: usize,
        /// By what.
        key: Key,
        /// What is known of queues.
        knowledge: Knowledge,
    },
}

/// What of a plan is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Its slow steps.
    SlowSteps,
    /// Its Python packages, too.
    WithPackages,
}

/// What a machine knows of an endpoint's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// What all machines have there.
    Everybodys,
    /// What it has there itself.
    Own,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) found: u64,
    pub(crate) steps: u64,
    /// Seconds that each build waited, what it lost with an endpoint included.
    pub(crate) waited: Vec<f64>,
    /// Seconds that each build took after that.
    pub(crate) took: Vec<f64>,
    /// Builds that were done twice.
    pub(crate) retried: usize,
}

/// Something that happens. The earliest is the greatest.
#[derive(PartialEq)]
struct Event {
    at: f64,
    kind: Kind,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Done { endpoint: usize, build: usize },
    Lost,
    Asked { build: usize },
}

/// The endpoints in the order in which each key looks for them.
pub(crate) struct Ranks {
    names: Vec<String>,
    known: HashMap<Digest, Vec<usize>>,
}

struct Fleet<'a> {
    builds: &'a [Build],
    endpoints: Vec<Endpoint>,
    /// Builds of each machine at each endpoint, where somebody asks.
    own: HashMap<(usize, usize), usize>,
    events: BinaryHeap<Event>,
    began: Vec<(f64, Work)>,
    turn: usize,
}

/// Lets a fleet of `endpoints` do all builds, and lose `lost` of its endpoints half-way.
pub(crate) fn simulate(builds: &[Build], endpoints: usize, lost: usize, policy: Policy, ranks: &mut Ranks) -> Outcome {
    let asked = builds.iter().enumerate().map(|(build, one)| Event { at: one.at, kind: Kind::Asked { build } });
    let mut fleet = Fleet {
        builds,
        endpoints: (0..endpoints).map(|_| Endpoint::default()).collect(),
        own: HashMap::new(),
        events: asked.collect(),
        began: vec![(0.0, Work::default()); builds.len()],
        turn: 0,
    };
    let middle = builds.last().map_or(0.0, |last| last.at / 2.0);
    fleet.events.push(Event { at: middle, kind: Kind::Lost });
    let mut outcome = Outcome { found: 0, steps: 0, waited: Vec::new(), took: Vec::new(), retried: 0 };
    while let Some(Event { at, kind }) = fleet.events.pop() {
        match kind {
            Kind::Asked { build } => fleet.ask(build, at, policy, ranks),
            Kind::Done { endpoint, build } => {
                if fleet.endpoints[endpoint].is_lost {
                    continue;
                }
                fleet.end(endpoint, build, at);
                let (began, work) = fleet.began[build];
                outcome.waited.push(began - builds[build].at);
                outcome.took.push(work.seconds);
                outcome.found += u64::from(work.found);
                outcome.steps += u64::from(work.steps);
            }
            Kind::Lost => {
                for number in 0..lost {
                    // Spread over the fleet, as machines that fail are.
                    let endpoint = number * endpoints / lost;
                    fleet.endpoints[endpoint].is_lost = true;
                    let running = std::mem::take(&mut fleet.endpoints[endpoint].running);
                    outcome.retried += running.len();
                    for build in running.into_iter().chain(std::mem::take(&mut fleet.endpoints[endpoint].waiting)) {
                        fleet.leave(endpoint, build);
                        fleet.ask(build, at, policy, ranks);
                    }
                }
            }
        }
    }
    outcome
}

impl Fleet<'_> {
    fn ask(&mut self, build: usize, at: f64, policy: Policy, ranks: &mut Ranks) {
        let endpoint = self.choose(build, policy, ranks);
        *self.own.entry((self.builds[build].machine, endpoint)).or_default() += 1;
        self.endpoints[endpoint].waiting.push_back(build);
        self.begin(endpoint, at);
    }

    fn begin(&mut self, endpoint: usize, at: f64) {
        while self.endpoints[endpoint].running.len() < IN_FLIGHT
            && let Some(build) = self.endpoints[endpoint].waiting.pop_front()
        {
            let work = self.endpoints[endpoint].work(&self.builds[build]);
            self.endpoints[endpoint].running.push(build);
            self.began[build] = (at, work);
            self.events.push(Event { at: at + work.seconds, kind: Kind::Done { endpoint, build } });
        }
    }

    fn end(&mut self, endpoint: usize, build: usize, at: f64) {
        self.endpoints[endpoint].running.retain(|running| *running != build);
        self.leave(endpoint, build);
        self.begin(endpoint, at);
    }

    fn leave(&mut self, endpoint: usize, build: usize) {
        *self.own.get_mut(&(self.builds[build].machine, endpoint)).expect("it was there") -= 1;
    }

    fn choose(&mut self, build: usize, policy: Policy, ranks: &mut Ranks) -> usize {
        let one = &self.builds[build];
        match policy {
            Policy::RoundRobin => loop {
                self.turn = (self.turn + 1) % self.endpoints.len();
                if !self.endpoints[self.turn].is_lost {
                    return self.turn;
                }
            },
            Policy::LeastLoaded => {
                // Of several with as little the one that was not chosen for longest.
                self.turn = (self.turn + 1) % self.endpoints.len();
                let from_turn = (0..self.endpoints.len()).map(|place| (place + self.turn) % self.endpoints.len());
                let working = from_turn.filter(|place| !self.endpoints[*place].is_lost);
                working.min_by_key(|place| self.load(*place).total()).expect("some endpoints are left")
            }
            Policy::Rendezvous => {
                let order = ranks.of(&one.key);
                *order.iter().find(|place| !self.endpoints[**place].is_lost).expect("some endpoints are left")
            }
            Policy::Bounded { queued_per_slot_max, key, knowledge } => {
                let order = ranks.of(match key {
                    Key::SlowSteps => &one.key,
                    Key::WithPackages => &one.key_with_packages,
                });
                let candidate = |place: &usize| Candidate {
                    standing: if self.endpoints[*place].is_lost { Standing::Suspect } else { Standing::Well },
                    load: match knowledge {
                        Knowledge::Everybodys => self.load(*place),
                        Knowledge::Own => {
                            let own = self.own.get(&(one.machine, *place)).copied().unwrap_or_default();
                            Load { running: own, waiting: 0 }
                        }
                    },
                    bound: NonZeroUsize::new(IN_FLIGHT).expect("it is more"),
                };
                order[choose(order.iter().map(candidate), queued_per_slot_max).expect("there are endpoints")]
            }
        }
    }

    fn load(&self, endpoint: usize) -> Load {
        let endpoint = &self.endpoints[endpoint];
        Load { running: endpoint.running.len(), waiting: endpoint.waiting.len() }
    }
}

impl Ranks {
    pub(crate) fn new(endpoints: usize) -> Self {
        let names = (0..endpoints).map(|number| format!("tcp://buildkitd-{number}.buildkitd:1234"));
        Self { names: names.collect(), known: HashMap::new() }
    }

    fn of(&mut self, key: &Digest) -> &[usize] {
        self.known.entry(*key).or_insert_with(|| {
            let members: Vec<Member<'_>> = self.names.iter().map(|name| Member { name, weight: 1 }).collect();
            rank(key, &members)
        })
    }
}

impl Policy {
    /// What the builder does.
    pub(crate) const OURS: Self = Self::Bounded {
        queued_per_slot_max: QUEUED_PER_SLOT_MAX,
        key: Key::SlowSteps,
        knowledge: Knowledge::Everybodys,
    };
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then_with(|| other.kind.cmp(&self.kind))
    }
}
