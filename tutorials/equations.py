"""The LaTeX of E01 to E24. A notebook's claim, headed `### E07 · ...`, holds one of its equation's formulas to the letter; a test compares.

Letters: a bar over alpha for the cumulative product, m = 1 on suspected pixels, o as \\circ; see the table of notation in 00_the_map.
"""

LATEX = {
    "E01": [r"\bar\alpha_t = \prod_{k=0}^{t} (1 - \beta_k), \qquad \bar\alpha_{-1} = 1"],
    "E02": [r"T,\; T - k,\; T - 2k,\; \dots \ge 0, \quad -1"],
    "E03": [r"x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\; \epsilon, \qquad \epsilon \sim \mathcal N(0, I)"],
    "E04": [r"L = \mathbb E\, \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2"],
    "E05": [
        r"\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\; \epsilon_\theta(x_t, t)}{\sqrt{\bar\alpha_t}}",
        r"\nabla \log p(x_t) = -\frac{\epsilon_\theta(x_t, t)}{\sqrt{1 - \bar\alpha_t}}",
    ],
    "E06": [
        r"q(x_s \mid x_t, x_0) = \mathcal N\!\left( "
        r"\frac{\sqrt{\bar\alpha_s}\,(1 - \alpha)\, x_0 + \sqrt{\alpha}\,(1 - \bar\alpha_s)\, x_t}"
        r"{1 - \bar\alpha_t},\; \frac{(1 - \alpha)(1 - \bar\alpha_s)}{1 - \bar\alpha_t}\, I \right), "
        r"\qquad \alpha = \frac{\bar\alpha_t}{\bar\alpha_s}"
    ],
    "E07": [
        r"x_s = \sqrt{\bar\alpha_s}\; \hat x_0 + c_1 z + c_2\, \epsilon_\theta",
        r"c_1 = \eta \sqrt{\Big(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\Big) \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}}, "
        r"\qquad c_2 = \sqrt{1 - \bar\alpha_s - c_1^2}",
    ],
    "E08": [r"y = (1 - m) \circ x_0 + m \circ (x_0 + \sigma n), \qquad n \sim \mathcal N(0, I)"],
    "E09": [r"\nabla \log p(x_t \mid y) = \nabla \log p(x_t) + \nabla \log p(y \mid x_t)"],
    "E10": [
        r"\nabla_{x_t} \lVert \hat x_0(x_t) - y \rVert^2 = J_t^\top (2 r), \qquad r = \hat x_0(x_t) - y",
        r"\nabla_{x_t} \lVert \hat x_0(x_t) - y \rVert = J_t^\top \frac{r}{\lVert r \rVert}",
    ],
    "E11": [r"\epsilon^m = \epsilon_\theta + w \sqrt{1 - \bar\alpha_t}\; \nabla_{x_t} \lVert \hat x_0(x_t) - y \rVert"],
    "E12": [r"\epsilon^{1-m} = \frac{x_t - \sqrt{\bar\alpha_t}\; y}{\sqrt{1 - \bar\alpha_t}}"],
    "E13": [r"\epsilon_\phi = m \circ \epsilon^m + (1 - m) \circ \epsilon^{1-m}"],
    "E14": [r"m = \mathbb 1[A > h], \qquad h = \text{the } (1 - \text{share}) \text{ quantile of good maps}"],
    "E15": [r"i = \frac{1}{C} \sum_{c} \lvert N(x_0)_c - N(y)_c \rvert"],
    "E16": [r"f = \sum_{l} \operatorname{up}\big(1 - \cos(\operatorname{pool} F_l(x_0),\; \operatorname{pool} F_l(y))\big)"],
    "E17": [r"D = f + \eta\, \frac{\max f}{\max i}\; i"],
    "E18": [r"A = \tfrac12\, G_\sigma * D"],
    "E19": [
        r"\text{score} = \frac{1}{k} \sum_{\text{the } k \text{ largest}} A",
        r"\text{score} = \sum_{\text{the } k \text{ largest}} \operatorname{softmax}(A)",
        r"\text{score} = \max A",
    ],
    "E20": [r"\bar A = \frac1n \sum_{i=1}^{n} A_i, \qquad \text{spread} = \sqrt{\frac1n \sum_{i=1}^{n} (A_i - \bar A)^2}"],
    "E21": [r"\text{AUROC} = P(s_{\text{anomalous}} > s_{\text{normal}}) + \tfrac12 P(s_{\text{anomalous}} = s_{\text{normal}})"],
    "E22": [r"\text{AP} = \sum_i (R_i - R_{i-1})\, P_i"],
    "E23": [r"\text{AUPRO} = \frac{1}{f_{\max}} \int_0^{f_{\max}} \text{PRO}(f)\, df"],
    "E24": [r"F_1 = \frac{2\, \text{TP}}{2\, \text{TP} + \text{FP} + \text{FN}}"],
}
