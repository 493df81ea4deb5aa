//! Chance that is the same in every run: SplitMix64, and what is drawn by it.

/// A source of numbers.
pub(crate) struct Random(u64);

/// A list of which the first are drawn most, as words of a language and packages of an index are.
pub(crate) struct Zipf {
    cumulative: Vec<f64>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.fraction() * end as f64) as usize
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// Time until the next of events that come `rate` times in each second, in seconds.
    pub(crate) fn until_next(&mut self, rate: f64) -> f64 {
        -(1.0 - self.fraction()).ln() / rate
    }

    /// A size around `median`, of which a few are many times as large.
    pub(crate) fn size(&mut self, median: f64, spread: f64) -> f64 {
        // The sum of twelve is as good as normal.
        let normal = (0..12).map(|_| self.fraction()).sum::<f64>() - 6.0;
        median * (normal * spread).exp()
    }
}

impl Zipf {
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=count)
            .map(|place| {
                sum += (place as f64).powf(-exponent);
                sum
            })
            .collect();
        for value in &mut cumulative {
            *value /= sum;
        }
        Self { cumulative }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let drawn = random.fraction();
        self.cumulative.partition_point(|value| *value <= drawn).min(self.cumulative.len() - 1)
    }
}
