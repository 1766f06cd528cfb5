// The experts of a token, a workgroup for each. Experts are found one by one, each as the largest of those that are left.
override WORKGROUP: u32 = 64u;
override SIGMOID: bool = false;
// Experts of a token.
override CHOSEN: u32 = 8u;

// The experts of an invocation that are chosen already, a bit for each.
const WORDS: u32 = 4u;

var<workgroup> scores: array<f32, CHOSEN>;

fn logit_at(token: u32, expert: u32) -> f32 {
    return logits.v[p.o0 / 4u + token * p.experts + expert];
}

// Softmax over all is e^(logit - largest) times `inverse`.
fn score_of(logit: f32, largest: f32, inverse: f32) -> f32 {
    if SIGMOID { return swish(1.0, logit); }
    return exp_of(logit - largest) * inverse;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let token = linear_group(at);
    if token >= tokens() { return; }
    var largest = 0.0;
    var inverse = 1.0;
    if !SIGMOID {
        var own = -3.4028235e38;
        for (var i = at.index; i < p.experts; i += WORKGROUP) { own = max(own, logit_at(token, i)); }
        largest = workgroup_max(own, at);
        var sum = 0.0;
        for (var i = at.index; i < p.experts; i += WORKGROUP) { sum += exp_of(logit_at(token, i) - largest); }
        inverse = 1.0 / workgroup_sum(sum, at);
    }
    var taken = vec4<u32>();
    var total = 0.0;
    for (var j = 0u; j < CHOSEN; j++) {
        // The first of the largest that are left; 0 stands for none, so that orders are moved up by one.
        var best = 0u;
        var place = 0u;
        for (var n = 0u; n * WORKGROUP + at.index < p.experts; n++) {
            let expert = n * WORKGROUP + at.index;
            if ((taken[n / 32u % WORDS] >> (n % 32u)) & 1u) == 0u {
                let logit = logit_at(token, expert);
                let order = order_of(choice(expert, logit, score_of(logit, largest, inverse))) + 1u;
                if order > best {
                    best = order;
                    place = n;
                }
            }
        }
        let first = workgroup_max_u32(best, at);
        let own = place * WORKGROUP + at.index;
        let id = ~workgroup_max_u32(select(0u, ~own, best == first), at);
        if id == own && best != 0u { taken[place / 32u % WORDS] |= 1u << (place % 32u); }
        let score = score_of(logit_at(token, id), largest, inverse);
        total += score;
        if at.index == 0u {
            put(token * CHOSEN + j, id);
            scores[j] = score;
        }
    }
    if at.index == 0u {
        let factor = p.scale / select(1.0, total, p.normalized != 0u);
        for (var j = 0u; j < CHOSEN; j++) { weights.v[weight_place(token * CHOSEN + j)] = scores[j] * factor; }
    }
}
