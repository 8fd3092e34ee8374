// SPDX-License-Identifier: GPL-2.0
// A GPU that computes nothing, under the kernel's real device frequency framework: its frequency is where the governor
// put it, within the caps that sysfs sets. For the hardware tests only.
#include <linux/devfreq.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm_opp.h>

static const unsigned long hertz[] = { 306000000, 408000000, 612000000, 816000000, 918000000, 1173000000 };
static unsigned long now_hz = 306000000;
static struct platform_device *gpu;

static int plant_target(struct device *dev, unsigned long *freq, u32 flags)
{
	struct dev_pm_opp *opp = devfreq_recommended_opp(dev, freq, flags);

	if (IS_ERR(opp))
		return PTR_ERR(opp);
	dev_pm_opp_put(opp);
	now_hz = *freq;
	return 0;
}

static int plant_cur_freq(struct device *dev, unsigned long *freq)
{
	*freq = now_hz;
	return 0;
}

static struct devfreq_dev_profile profile = {
	.initial_freq = 306000000,
	.target = plant_target,
	.get_cur_freq = plant_cur_freq,
};

static int plant_probe(struct platform_device *pdev)
{
	struct devfreq *devfreq;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(hertz); i++) {
		err = dev_pm_opp_add(&pdev->dev, hertz[i], 0);
		if (err)
			return err;
	}
	devfreq = devm_devfreq_add_device(&pdev->dev, &profile, DEVFREQ_GOV_PERFORMANCE, NULL);
	return PTR_ERR_OR_ZERO(devfreq);
}

static struct platform_driver plant_driver = {
	.probe = plant_probe,
	.driver = { .name = "17000000.gpu" },
};

static int __init plant_init(void)
{
	int err = platform_driver_register(&plant_driver);

	if (err)
		return err;
	gpu = platform_device_register_simple("17000000.gpu", PLATFORM_DEVID_NONE, NULL, 0);
	return PTR_ERR_OR_ZERO(gpu);
}

static void __exit plant_exit(void)
{
	platform_device_unregister(gpu);
	platform_driver_unregister(&plant_driver);
}

module_init(plant_init);
module_exit(plant_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a GPU's frequency caps, for tests");
