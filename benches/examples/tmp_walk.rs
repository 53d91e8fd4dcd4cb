//! Temporary.
use nic_benches::*;
use std::time::*;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let mut t = WalkTarget::new(a[0] as u32).unwrap();
    let mut chase = nic_figures::Chase::along(t.words(), 1).unwrap();
    println!(
        "load {:.1} ns, 64: {:.2} ns",
        chase.run(2_000_000),
        chase.run_interleaved(64, 100_000)
    );
    for &w in &a[2..] {
        let (b, mut n) = (Instant::now(), 0);
        while b.elapsed().as_millis() < a[1] as u128 {
            t.batch(w).unwrap();
            n += w;
        }
        println!("{w}: {:.1} ns a hop", b.elapsed().as_nanos() as f64 / (n * HOPS) as f64);
    }
}
