//! What a call costs: exact arithmetic in millionths of the price table's currency, never in floating point.

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Prices {
    /// Millionths of the currency for a million tokens given to the model.
    pub input_per_million: u64,
    /// Millionths of the currency for a million tokens that the model makes.
    pub output_per_million: u64,
}

/// One million, of tokens and of millionths.
const MILLION: u128 = 1_000_000;

/// The price of a call in millionths, rounded up once at the end. With the largest prompt and the longest answer it
/// is what to reserve, with the counted ones what to settle.
pub fn cost(prices: Prices, prompt_tokens: u64, output_tokens: u64) -> u64 {
    let input = u128::from(prices.input_per_million) * u128::from(prompt_tokens);
    let output = u128::from(prices.output_per_million) * u128::from(output_tokens);
    // Each product is below 2^128 - 2^65, their sum may not be.
    let total = input.saturating_add(output).div_ceil(MILLION);
    u64::try_from(total).unwrap_or(u64::MAX)
}

/// Millionths as a decimal number: `12.5`.
pub fn decimal(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:06}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_exact_and_rounded_up_once() {
        // 2.50 and 10 a million.
        let prices = Prices { input_per_million: 2_500_000, output_per_million: 10_000_000 };
        assert_eq!(cost(prices, 1_000_000, 1_000_000), 12_500_000);
        assert_eq!(cost(prices, 1000, 100), 3_500);
        assert_eq!(cost(prices, 1, 0), 3, "two and a half");
        assert_eq!(cost(prices, 0, 0), 0);
        let cheap = Prices { input_per_million: 1, output_per_million: 1 };
        assert_eq!(cost(cheap, 1, 1), 1, "and not 2: rounded once");
        assert_eq!(cost(Prices::default(), u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn the_largest_cost_is_too_much_and_not_a_small_one() {
        let prices = Prices { input_per_million: u64::MAX, output_per_million: u64::MAX };
        assert_eq!(cost(prices, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(cost(prices, 1_000_000, 0), u64::MAX);
        assert_eq!(cost(prices, 1_000_000, 1), u64::MAX);
    }

    #[test]
    fn money_is_written_without_zeros_that_say_nothing() {
        for (micros, text) in
            [(0, "0"), (1, "0.000001"), (12_500_000, "12.5"), (3_000_000, "3"), (10, "0.00001")]
        {
            assert_eq!(decimal(micros), text);
        }
    }
}
