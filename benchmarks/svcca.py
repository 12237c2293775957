"""Speed of CCA and SVCCA against the plain way and against the machine's own matrix product, all measured in one run.

Run: python benchmarks/svcca.py  (activations are drawn: 64 common directions, noise, an offset; for one table with the decaying
singular values of a trained layer; `python benchmarks/svcca.py trained` makes that table alone).
The plain way is written here from the formula, in NumPy float64: the joint covariance, pseudo-inverses, symmetric roots by
eigenvectors, a full singular value decomposition of S_xx^-1/2 S_xy S_yy^-1/2; for SVCCA one of both layers first.
FLOPs counted: 2 n p^2 + 2 n q^2 + 2 n p q for a pair, 2 n p q for each pair of a table.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from ratios import QUICK, keep
from threadpoolctl import threadpool_limits

from replication import machine, svcca
from replication.files.provenance import processor
from replication.svcca.factor import coupling, factorise
from replication.svcca.orthonormal import singular_values

PAIRS = ((64, 1_000, 1),) if QUICK else ((512, 10_000, 5), (64, 50_000, 15), (2_048, 20_000, 1))  # neurons, examples, repeats
N_LAYERS, WIDTH, EXAMPLES, SAMPLED = (9, 64, 1_000, 1) if QUICK else (30, 512, 10_000, 3)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds: one thread, on cores that others may use."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def layer(n: int, p: int, seed: int) -> torch.Tensor:
    common = torch.randn(n, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1 + seed)
    mixing = torch.randn(64, p, generator=generator, dtype=torch.float64) / 16
    return common @ mixing + torch.randn(n, p, generator=generator, dtype=torch.float64) + 1


def trained_layer(n: int, p: int, seed: int) -> torch.Tensor:
    """Singular values as fc1 of SVCCA's convnet has them (512 neurons, CIFAR-10): sqrt((1 - i / (p + 1)) / i) follows them within 30 %.

    Half of the directions are common to all layers.
    """
    common = torch.randn(n, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1 + seed)
    own = torch.randn(n, p, generator=generator, dtype=torch.float64)
    own[:, ::2] = common[:, ::2]
    number = torch.arange(1, p + 1, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(p, p, generator=generator, dtype=torch.float64))[0]
    return own * ((1 - number / (p + 1)) / number).sqrt() @ rotation + 1


def plain_cca(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``[neurons, examples]``, as the plain way has it."""
    covariance = np.cov(x, y)
    p = len(x)

    def inverse_root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(np.linalg.pinv(matrix))
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    return np.linalg.svd(inverse_root(covariance[:p, :p]) @ covariance[:p, p:] @ inverse_root(covariance[p:, p:]))[1]


def plain_svcca(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    kept = []
    for z in (x, y):
        _, s, vh = np.linalg.svd(z - z.mean(1, keepdims=True), full_matrices=False)
        k = int((s.cumsum() < 0.99 * s.sum()).sum()) + 1
        kept.append(s[:k, None] * vh[:k])
    return plain_cca(*kept)


def ceiling(dtype: torch.dtype) -> float:
    """FLOPs a second of a matrix product."""
    square = torch.ones(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / min(timed(lambda: square @ square)[0] for _ in range(3))


def pairs() -> None:
    """One pair: the two precisions against the plain way, beside each other in every repeat."""
    print(
        f"{'neurons':>7} {'examples':>8} {'precision':>9} {'plain s':>8} {'ours s':>7} {'ratio':>6} {'error':>8} {'share of ceiling':>16}"
    )
    for p, n, repeats in PAIRS:
        x, y = layer(n, p, 0), layer(n, p, 1)
        transposed = [np.ascontiguousarray(z.numpy().T) for z in (x, y)]
        narrow = [z.float() for z in (x, y)]
        for dtype, layers in ((torch.float64, (x, y)), (torch.float32, narrow)):
            plain, ours, ceilings = [], [], []
            for _ in range(repeats + (repeats > 1)):  # the first is warming up
                seconds, expected = timed(lambda transposed=transposed: plain_cca(*transposed))
                plain.append(seconds)
                seconds, result = timed(lambda layers=layers: svcca.cca(*layers).coefficients)
                ours.append(seconds)
                ceilings.append(ceiling(dtype))
            a, b, c = (statistics.median(v[-repeats:]) for v in (plain, ours, ceilings))
            error = np.abs(result.numpy() - expected).max()
            share = 6 * n * p * p / b / c
            print(f"{p:7} {n:8} {str(dtype)[6:]:>9} {a:8.3f} {b:7.3f} {a / b:6.2f} {error:8.0e} {share:16.0%}", flush=True)
            keep("SVCCA", f"CCA of a pair, {p:,} neurons, {n:,} examples, {str(dtype)[6:]}", {"NumPy float64, plain": a / b})


def tables(draw: Callable[[int, int, int], torch.Tensor], measures: tuple[str, ...]) -> None:
    """All pairs of 30 layers; the plain way on a few pairs, times the number of pairs."""
    layers = {f"layer{i}": draw(EXAMPLES, WIDTH, i) for i in range(N_LAYERS)}
    names = list(layers)
    unordered = N_LAYERS * (N_LAYERS + 1) // 2
    for measure in measures:
        plain = {"cca": plain_cca, "svcca": plain_svcca}[measure]
        rate = ceiling(torch.float64)
        seconds, table = timed(lambda measure=measure: svcca.similarity_matrix(layers, measure=measure))
        times, errors = [], []
        for i in range(SAMPLED + 1):
            x, y = (layers[names[j]] for j in (i, i + 7))
            a, b = (np.ascontiguousarray(z.numpy().T) for z in (x, y))
            taken, expected = timed(lambda plain=plain, a=a, b=b: plain(a, b))
            times.append(taken)
            errors.append(np.abs(getattr(svcca, measure)(x, y).coefficients.numpy() - expected).max())
        each = statistics.median(times[1:])
        kept = int(table.dimensions_a.median())
        share = unordered * 2 * EXAMPLES * kept**2 / seconds / rate
        print(
            f"{measure} ({draw.__name__}), {N_LAYERS} x {N_LAYERS} table of {WIDTH} neurons x {EXAMPLES} examples (kept {kept}): "
            f"{seconds:.1f} s, plain {each:.2f} s a pair; {N_LAYERS**2 * each / seconds:.0f} times as fast as {N_LAYERS**2} pairs, "
            f"{unordered * each / seconds:.1f} times as {unordered}; "
            f"error {max(errors):.0e}, {share:.0%} of the ceiling",
            flush=True,
        )
        spectrum = "spectrum of a trained layer" if draw is trained_layer else "noise in every direction"
        case = f"{measure.upper()} of {unordered} pairs of layers, {spectrum}"
        keep("SVCCA", case, {"NumPy float64, plain": unordered * each / seconds})


def fourier() -> None:
    """Half plane and one batch against a loop over all frequencies with the same factorisation."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1000, 32, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2))

    def loop() -> torch.Tensor:
        a, b = (torch.fft.fft2(z).permute(2, 3, 0, 1).flatten(0, 1).contiguous() for z in (x, y))
        return torch.stack([singular_values(coupling(factorise(u), factorise(v))) for u, v in zip(a, b, strict=True)])

    ratios = []
    for _ in range(5):
        looped, expected = timed(loop)
        batched, result = timed(lambda: svcca.fourier_cca(x, y))
        ratios.append(looped / batched)
    error = (result.coefficients[result.block_of.flatten()] - expected).abs().max()
    keep("SVCCA", "Fourier CCA, 32 channels, 16 x 16 pixels", {"loop over frequencies": statistics.median(ratios)})
    print(f"Fourier, 1000 examples, 32 channels, 16 x 16: {statistics.median(ratios):.2f} times a loop over frequencies, error {error:.0e}")


def cka() -> None:
    """A table of 25 wide layers, as a small residual net has them, against float32 Gram matrices of both sides and all pairs at once."""
    generator = torch.Generator().manual_seed(0)
    sizes = [16 * 32 * 32] * 8 + [32 * 16 * 16] * 8 + [64 * 8 * 8] * 8 + [10]
    layers = {str(number): torch.randn(64, p, generator=generator).relu() for number, p in enumerate(sizes)}

    def plain() -> torch.Tensor:
        a, b = (torch.stack([x @ x.T for x in layers.values()]) for _ in range(2))
        a, b = (k - k.mean(1, keepdim=True) - k.mean(2, keepdim=True) + k.mean((1, 2), keepdim=True) for k in (a, b))
        norms = [torch.linalg.matrix_norm(k) for k in (a, b)]
        return torch.einsum("aij,bij->ab", a, b) / torch.outer(*norms)

    ratios = []
    for _ in range(7):
        seconds, expected = timed(plain)
        ours, table = timed(lambda: svcca.similarity_matrix(layers, measure="linear_cka"))
        ratios.append(seconds / ours)
    error = np.abs(table["similarity"].to_numpy() - expected.flatten().double().numpy()).max()
    ratio = statistics.median(ratios[1:])
    keep("SVCCA", "Linear CKA of 25 flattened layers, 64 examples", {"float32 Gram matrices, plain": ratio})
    print(f"CKA table of 25 flattened layers: {ratio:.2f} times float32 Gram matrices of both sides, difference {error:.0e}")


def main() -> None:
    device = machine.prepare(threads=1)
    threadpool_limits(1)  # NumPy's and SciPy's libraries too: threads that wait count as processor time
    print(f"{processor()}, {machine.describe(device)}, torch {torch.__version__}, numpy {np.__version__}")
    if sys.argv[1:] != ["trained"]:
        fourier()
        cka()
        pairs()
        tables(layer, ("cca", "svcca"))
    tables(trained_layer, ("svcca",))


if __name__ == "__main__":
    main()
