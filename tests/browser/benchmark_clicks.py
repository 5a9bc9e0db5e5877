"""Click on a word to new bars on the screen: `python -m pytest tests/browser/benchmark_clicks.py -s`."""

import platform
import statistics

# Clicks a chip and waits until the answer is drawn and painted; returns milliseconds.
CLICK = """async ([root, index]) => {
    const chip = root.querySelectorAll("button.chip")[index];
    const before = root.dataset.revision;
    const start = performance.now();
    chip.click();
    await new Promise((done) => {
        const watch = new MutationObserver(() => {
            if (root.dataset.revision === before) return;
            watch.disconnect();
            requestAnimationFrame(() => setTimeout(done));
        });
        watch.observe(root, { attributes: true });
    });
    return performance.now() - start;
}"""


def test_clicks(lesson):
    opened = lesson("01_masked_filling.ipynb")
    opened.run_all()
    widget = opened.widget()
    root = widget.root.element_handle()
    times = []
    for click in range(120):
        times.append(opened.page.evaluate(CLICK, [root, click // 2 % 8]))
        opened.page.wait_for_timeout(100)  # as a person would, not as fast as possible
    times = times[20:]  # the first ones warm up
    cuts = statistics.quantiles(times, n=20)
    status = widget.root.locator(".status").text_content()
    print(f"\n{platform.machine()}, 100 clicks, sentence of 9 words; last: {status}")
    print(f"p50 {statistics.median(times):.0f} ms, p95 {cuts[18]:.0f} ms, worst {max(times):.0f} ms")
    assert len(times) == 100
